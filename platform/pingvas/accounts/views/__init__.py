"""Routes of accounts."""

from pingvas.accounts.views import api_keys, credentials, oauth, second_factor, sign_in, sign_ins
from pingvas.accounts.views.blueprint import bp

__all__ = ["api_keys", "bp", "credentials", "oauth", "second_factor", "sign_in", "sign_ins"]
