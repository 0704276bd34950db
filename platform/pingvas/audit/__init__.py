"""Who changed what by hand: rows that are written with the change, and never changed themselves."""

from pingvas.audit.trail import of_subject, record

__all__ = ["of_subject", "record"]
