"""Scheduled work runs once, however many beats ring for it; its last runs tell operators how late it is."""

from pingvas.beats.flight import Lag, lags, once

__all__ = ["Lag", "lags", "once"]
