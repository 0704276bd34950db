"""A client of the REST API with nothing but the standard library."""

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from pingvas.cli.console import CommandError
from pingvas.errors import in_words

TIMEOUT_SECONDS = 30.0


class ApiError(CommandError):
    """The API answered with a problem document."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        detail = problem.get("detail") or problem.get("title") or f"HTTP status {status}"
        super().__init__("; ".join(map(in_words, problem.get("errors", ()))) or str(detail))


class UnreachableError(CommandError):
    """Nobody answers there."""


class Client:
    """Calls an API at `url`, with a key or token once it has one."""

    def __init__(self, url: str, key: str = "") -> None:
        self.url = url.rstrip("/")
        self.key = key

    def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        return json.loads(self.content(path))

    def post(self, path: str, body: dict[str, Any], **headers: str) -> Any:
        """Return the JSON of a POST."""
        data = json.dumps(body).encode()
        return json.loads(self._call(path, data, {"Content-Type": "application/json", **headers}))

    def content(self, path: str) -> bytes:
        """Return the bytes of a GET.

        Raises:
            ApiError: the API said no.
            UnreachableError: nobody answers.
        """
        return self._call(path, None, {})

    def ready(self) -> bool:
        """Tell whether the API and what it needs are up."""
        try:
            self.content("/readyz")
        except (ApiError, UnreachableError):
            return False
        return True

    def _call(self, path: str, data: bytes | None, headers: dict[str, str]) -> bytes:
        address = path if path.startswith(("http://", "https://")) else self.url + path
        if address.startswith(self.url + "/") and self.key:  # the key is for nobody else, a store's URL say
            headers = {**headers, "Authorization": f"Bearer {self.key}"}
        if not address.startswith(("http://", "https://")):
            raise CommandError(f"{self.url} is no http(s) address")
        request = urllib.request.Request(address, data, headers)  # noqa: S310 (the scheme was checked)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
                content: bytes = response.read()
                return content
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, _problem(error.read())) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise UnreachableError(f"Nothing answers at {self.url} ({reason}).") from None


def _problem(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
