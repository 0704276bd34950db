"""Points between two steps of a job at which a process can be made to die, to prove that nothing is lost.

`PINGVAS_FAULT=stored:3` ends the process, as kill -9 does, when it passes the point `stored` the third time.
The settings refuse that outside development.
"""

import itertools
import os
import signal
from functools import cache
from typing import Final

from pingvas import settings

POINTS: Final = (
    "claiming",  # the claim is written and not committed
    "claimed",
    "drawn",  # the engine has given the pictures
    "stored",  # the object store has one more picture
    "settling",  # pictures, charge and status are written and not committed
    "settled",  # committed; no event told and no place given on
    "completed",  # everything is done save the message's acknowledgement
)


def point(name: str) -> None:
    """Die here if the settings say so."""
    fault = settings.get().fault
    if not fault:
        return
    armed, _, number = fault.partition(":")
    if armed == name and next(_passings()) == int(number):
        os.kill(os.getpid(), signal.SIGKILL)


@cache
def _passings() -> "itertools.count[int]":
    return itertools.count(1)
