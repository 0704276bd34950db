"""The generation engine: knows torch and diffusers; knows no web, database, broker or user."""
