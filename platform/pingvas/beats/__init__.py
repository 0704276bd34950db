"""Scheduled work runs once, however many beats ring for it; its last runs tell operators how late it is."""

from pingvas.beats.flight import Lag, expect, lags, once

__all__ = ["Lag", "expect", "lags", "once"]
