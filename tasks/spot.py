"""Spot interruption: EC2 says two minutes ahead that it takes a machine away, and the worker leaves in time.

Instance metadata, version 2: a token by PUT, then `GET /latest/meta-data/spot/instance-action`, 404 until
there is a notice. Source: "Spot Instance interruption notices" in the Amazon EC2 User Guide.
"""

import json
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

import httpx

from pingvas import clock, settings

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0  # as AWS recommends
_LEFT_FOR_LEAVING: Final = 20.0  # seconds before the end by which jobs are to be back in their queue
_TOKEN_SECONDS: Final = 21_600

_ACTION: Final = "/latest/meta-data/spot/instance-action"


class NoNotice(ValueError):
    """What the metadata say is not understood."""


class Metadata:
    """The instance's metadata at an address."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=2.0, trust_env=False)
        self._token = ""

    def notice(self) -> datetime | None:
        """Return when the machine is stopped or taken away; None: nobody has said so.

        Raises:
            httpx.HTTPError: the metadata cannot be read.
            NoNotice: they are not what they should be.
        """
        answer = self._ask()
        if answer.status_code == httpx.codes.UNAUTHORIZED:  # no token yet, or one that is too old
            self._renew()
            answer = self._ask()
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        text = answer.raise_for_status().text
        try:
            return datetime.fromisoformat(json.loads(text)["time"])
        except (ValueError, KeyError, TypeError) as error:
            raise NoNotice(f"this is no notice: {text[:200]!r}") from error

    def _ask(self) -> httpx.Response:
        return self._http.get(_ACTION, headers={"X-aws-ec2-metadata-token": self._token})

    def _renew(self) -> None:
        life = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
        self._token = self._http.put("/latest/api/token", headers=life).raise_for_status().text


def watch(leave: Callable[[float], object]) -> None:
    """Look for a notice from a thread, where the settings name an address.

    `leave` is called with the seconds that running jobs have left.
    """
    url = settings.get().spot_metadata_url
    if url:
        threading.Thread(target=until_notice, args=(Metadata(url), leave), name="spot", daemon=True).start()


def until_notice(metadata: Metadata, leave: Callable[[float], object], pause: float = LOOK_SECONDS) -> None:
    """Look every `pause` seconds until there is a notice; then call `leave`."""
    between, told = threading.Event(), False
    while True:
        try:
            at = metadata.notice()
        except (httpx.HTTPError, NoNotice) as error:
            if not told:
                log.warning("spot interruptions are not heard of: %s", error)
            told, at = True, None
        if at is not None:
            log.warning("this machine is taken away at %s", at)
            leave(max(0.0, (at - clock.now()).total_seconds() - _LEFT_FOR_LEAVING))
            return
        between.wait(pause)
