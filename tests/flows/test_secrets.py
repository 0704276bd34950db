"""A customer's day on the running stack leaves none of its secrets in what the processes write."""

import os
from typing import Any

from pingvas.embedded import DataFolder
from tests.conftest import _REDIS_PASSWORD
from tests.flows.conftest import Customer


def test_no_log_holds_a_secret(stack: Any, customer: Customer, data_folder: DataFolder) -> None:
    password = "sentinel correct horse"
    account = {"email": f"second-{customer.email}", "password": password}
    tokens = customer.http.post("/api/v1/auth/register", json=account).json()
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    key = customer.http.post("/api/v1/api-keys", json={"name": "a"}, headers=bearer).json()["key"]
    wrong = {"email": account["email"], "password": "sentinel of a typo"}
    answers = [
        customer.http.post("/api/v1/auth/login", json=wrong),
        customer.http.post("/api/v1/auth/login", json={**account, "password": [password]}),
        customer.http.post("/api/v1/auth/refresh", json={"refresh_token": [tokens["refresh_token"]]}),
        customer.http.get("/api/v1/jobs", headers={"Authorization": f"Bearer {key}x"}),
        customer.http.post("/api/v1/auth/login", content=f'{{"password":"{password}"', headers=bearer),
    ]
    order = {"prompt": "sentinel of a prompt"}
    answers.append(
        customer.http.post("/api/v1/generate", json=order, headers={"Authorization": f"Bearer {key}"})
    )
    accepted = customer.http.post("/api/v1/generate", json=order, headers=bearer)
    customer.http.headers.update(bearer)
    assert customer.finished(accepted.json()["job_id"])["status"] == "completed"
    secrets = {
        "password": password,
        "typo": "sentinel of a typo",
        "access token": tokens["access_token"],
        "refresh token": tokens["refresh_token"],
        "key": key,
        "secret key": os.environ["PINGVAS_SECRET_KEY"],
        "broker's password": _REDIS_PASSWORD,
    }
    for answer in answers:
        assert 400 <= answer.status_code < 500, answer.text
        assert not [name for name, secret in secrets.items() if secret in answer.text], answer.text
    logs = list((data_folder.path / "logs").glob("*.log"))
    assert {"api.log", "gpu-worker.log", "control-worker.log"} <= {path.name for path in logs}
    for path in logs:
        written = path.read_text(errors="replace")
        assert not [name for name, secret in secrets.items() if secret in written], path.name
