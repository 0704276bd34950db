"""A customer of a running stack: real HTTP, a real worker, the real model."""

import io
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

PROMPT = "a red circle on a blue background"
FINAL = ("completed", "failed", "cancelled")


class Customer:
    """Somebody with an account and a token."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=90)
        self.email = f"{uuid.uuid4().hex}@example.com"
        answer = self.http.post(
            "/api/v1/auth/register", json={"email": self.email, "password": "correct horse battery"}
        )
        assert answer.status_code == 201, answer.text
        self.id = answer.json()["user"]["id"]
        self.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def generate(self, **body: Any) -> dict[str, Any]:
        answer = self.http.post("/api/v1/generate", json={"prompt": PROMPT, "seed": 7} | body)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def job(self, job_id: str, wait: int = 0) -> dict[str, Any]:
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        answer = self.http.get(f"/api/v1/jobs/{job_id}", headers=headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def finished(self, job_id: str) -> dict[str, Any]:
        """Wait until a job has ended; a minute covers a lost lease and a cold model."""
        for _ in range(6):
            job = self.job(job_id, wait=20)
            if job["status"] in FINAL:
                return job
        raise AssertionError(f"job {job_id} has not ended: {job}")

    def picture(self, job: dict[str, Any]) -> Image.Image:
        answer = self.http.get(job["image_url"])
        assert answer.status_code == 200, answer.text
        return Image.open(io.BytesIO(answer.content))

    def balance(self) -> dict[str, Any]:
        return dict(self.http.get("/api/v1/credits/balance").json())


@pytest.fixture
def customer(stack: Any) -> Iterator[Customer]:
    somebody = Customer(stack.url)
    yield somebody
    somebody.http.close()


@pytest.fixture
def rich(stack: Any, customer: Customer) -> Customer:
    """A customer with a thousand credits: a long job is quoted by what this machine takes for its steps."""
    stack.give(customer.id, 1_000 - customer.balance()["balance"])
    return customer
