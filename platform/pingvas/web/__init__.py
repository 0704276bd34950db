"""The web glue every domain stands on: uniform views, problems, sign-in, idempotency, paging, OpenAPI."""
