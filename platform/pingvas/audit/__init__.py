"""Who changed what by hand: rows that are written with the change, and never changed themselves."""

from pingvas.audit.trail import coming_from, of_subject, record

__all__ = ["coming_from", "of_subject", "record"]
