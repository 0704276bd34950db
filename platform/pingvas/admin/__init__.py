"""What staff may see and do over REST; every call leaves a row in the trail."""

from pingvas.admin import accounts, dead_letters, jobs, overview, trail

BLUEPRINTS = (accounts.bp, jobs.bp, dead_letters.bp, overview.bp, trail.bp)

__all__ = ["BLUEPRINTS"]
