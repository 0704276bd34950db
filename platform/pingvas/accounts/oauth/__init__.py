"""Signing in through another provider: authorization code with state, nonce and PKCE.

Authlib is the client (RFC 9700; OpenID Connect Core 1.0). It keeps state, nonce and code verifier in the
signed session cookie, so that only the browser that began a sign-in can end it, and drops them at the first
use.
"""

from pingvas.accounts.oauth.linking import account_of
from pingvas.accounts.oauth.person import Person
from pingvas.accounts.oauth.providers import begin, finish

__all__ = ["Person", "account_of", "begin", "finish"]
