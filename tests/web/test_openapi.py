"""The document is valid, and says what the code does."""

import subprocess
import sys
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from pingvas.web.api import Contract

JSON, PROBLEM = "application/json", "application/problem+json"


@pytest.fixture
def spec(client: FlaskClient) -> dict[str, Any]:
    document = client.get("/api/openapi.json").json
    assert isinstance(document, dict)
    return document


def test_the_document_is_valid(spec: dict[str, Any]) -> None:
    assert spec["openapi"].startswith("3.1")
    validate(spec)


def test_every_route_has_a_contract_and_is_documented(app: Flask, spec: dict[str, Any]) -> None:
    for rule in app.url_map.iter_rules():
        if rule.endpoint.split(".")[0] in ("docs", "openapi"):
            continue
        extensions = getattr(app.view_functions[rule.endpoint], "_spec", {}).get("extensions", {})
        assert isinstance(extensions.get("x-contract"), Contract), rule.rule
        path = rule.rule.replace("<", "{").replace(">", "}")
        assert {method.lower() for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}} <= set(
            spec["paths"][path]
        )


def test_names_of_operations_are_unique(spec: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in spec["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


def test_a_creating_call_documents_everything(spec: dict[str, Any]) -> None:
    create = spec["paths"]["/api/v1/api-keys"]["post"]
    assert set(create["responses"]) == {
        "201",
        "400",
        "401",
        "403",
        "408",
        "409",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
    }
    assert create["requestBody"]["required"] is True
    assert [parameter["name"] for parameter in create["parameters"]] == ["Idempotency-Key"]
    assert create["security"] == [{"bearerAuth": []}, {"sessionCookie": []}]
    for status, response in create["responses"].items():
        assert list(response["content"]) == [JSON if status == "201" else PROBLEM]
    assert {"REQUEST_IN_FLIGHT"} == set(
        create["responses"]["409"]["content"]["application/problem+json"]["examples"]
    )


def test_what_helps_with_an_error_is_documented(spec: dict[str, Any]) -> None:
    members = spec["components"]["schemas"]["Problem"]["properties"]
    assert {"required", "available", "limit", "errors", "request_id"} <= set(members)


def test_counted_answers_document_their_limits(spec: dict[str, Any]) -> None:
    accepted = spec["paths"]["/api/v1/generate"]["post"]["responses"]["202"]
    assert {"RateLimit", "RateLimit-Policy", "X-Request-Id"} <= set(accepted["headers"])
    assert "RateLimit" not in spec["paths"]["/healthz"]["get"]["responses"]["200"]["headers"]


def test_models_are_strict_and_have_examples(spec: dict[str, Any]) -> None:
    body = spec["components"]["schemas"]["RegisterBody"]
    assert body["additionalProperties"] is False
    assert body["required"] == ["email", "password"]
    assert body["examples"][0]["email"]


def test_a_list_is_a_typed_page(spec: dict[str, Any]) -> None:
    answer = spec["paths"]["/api/v1/api-keys"]["get"]["responses"]["200"]
    name = answer["content"][JSON]["schema"]["$ref"].rsplit("/", 1)[1]
    page = spec["components"]["schemas"][name]
    assert set(page["required"]) == {"items", "next_cursor"}
    assert page["properties"]["items"]["items"] == {"$ref": "#/components/schemas/KeyReply"}
    assert "Link" in answer["headers"]


def test_public_calls_ask_for_no_credentials(spec: dict[str, Any]) -> None:
    login = spec["paths"]["/api/v1/auth/login"]["post"]
    assert login["security"] == []
    assert "INVALID_CREDENTIALS" in login["responses"]["401"]["description"]


def test_the_documentation_page_needs_nothing_from_elsewhere(client: FlaskClient) -> None:
    page = client.get("/api/docs")
    assert page.status_code == 200
    assert "http" not in page.text
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "swagger.svg", "start.js"):
        assert f"/api/docs/{name}" in page.text
        assert client.get(f"/api/docs/{name}").status_code == 200
    assert client.get("/api/docs/../app.py").status_code == 404


def test_the_application_imports_no_torch() -> None:
    code = "import sys, pingvas.app; sys.exit(bool({'torch', 'diffusers', 'boto3'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
