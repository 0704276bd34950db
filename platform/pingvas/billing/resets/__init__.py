"""The monthly reset: what is left expires, the plan's credits are given anew."""

from pingvas.billing.resets.notices import tell_low
from pingvas.billing.resets.run import reset_all, reset_chunk, run

__all__ = ["reset_all", "reset_chunk", "run", "tell_low"]
