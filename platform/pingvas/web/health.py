"""`/healthz`: the process answers. `/readyz`: what it needs answers too, each part by name."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

from flask import Flask

from pingvas.errors import Unavailable
from pingvas.web.api import Answer, Blueprint, Reply, endpoint

TIMEOUT_SECONDS = 2.0

Check = Callable[[], object]
"""Returns when the part is well, else raises."""


class Unwell(Exception):
    """A part is not well; the text says what is wrong, in words that anybody may read."""


class Health(Reply):
    """The process is up."""

    status: str = "ok"


class Readiness(Reply):
    """Every part answers; the problem of a 503 has the same `checks`, with a word on what is wrong."""

    status: str = "ok"
    checks: dict[str, str]


class Checks:
    """Parts to ask, all at once, each for two seconds at most."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)
        # Two rounds of hanging checks fit; a third is answered "timed out" without adding threads.
        self._pool = ThreadPoolExecutor(max_workers=max(2 * len(checks), 1), thread_name_prefix="readyz")

    def ask(self) -> dict[str, str]:
        """Return `ok` for each part that is well, else a word on what is wrong."""
        asked = {name: self._pool.submit(check) for name, check in self._checks.items()}
        wait_for(asked.values(), timeout=TIMEOUT_SECONDS)
        return {name: _outcome(future) for name, future in asked.items()}


def init_app(app: Flask, checks: Mapping[str, Check]) -> None:
    """Serve both, with the parts to ask about."""
    bp = Blueprint("health", tag="Health", url_prefix="/")
    parts = Checks(checks)

    @bp.get("/healthz")
    @endpoint(reply=Health, public=True)
    def healthz() -> Health:
        """Say that the process is up."""
        return Health()

    @bp.get("/readyz")
    @endpoint(reply=Readiness, public=True)
    def readyz() -> Answer:
        """Say whether the database, the broker and the store answer; 503 names those that do not."""
        found = parts.ask()
        missing = sorted(name for name, outcome in found.items() if outcome != "ok")
        if missing:
            raise Unavailable(f"Not reachable: {', '.join(missing)}", checks=found)
        return Answer(Readiness(checks=found), headers={"Cache-Control": "no-store"})

    app.register_blueprint(bp)


def _outcome(future: "Future[object]") -> str:
    if not future.done():
        future.cancel()
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    error = future.exception()
    if isinstance(error, Unwell):
        return str(error)
    # The kind only: its text may hold addresses and user names, and anybody may ask.
    return type(error).__name__ if error else "ok"
