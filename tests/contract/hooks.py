"""What Schemathesis is told beside the document: whom it acts for."""

from typing import Any
from uuid import uuid4

import schemathesis

from pingvas import db, domains
from pingvas.accounts.register import register
from pingvas.accounts.tokens import sign_in
from pingvas.billing import ledger

domains.load()


@schemathesis.auth(refresh_interval=2)
class Auth:
    """An admin with credits. What is generated may sign out, so a new sign-in is made again and again."""

    def __init__(self) -> None:
        self.user = register(
            f"{uuid4().hex}@example.com", "correct horse battery", tier="enterprise", role="admin"
        )
        ledger.grant(self.user.id, 10**9, business_key=f"contract:{self.user.id}")

    def get(self, case: Any, context: Any) -> str:
        """Return an access token."""
        with db.transaction() as session:
            return sign_in(session, self.user, second_factor=True).access_token

    def set(self, case: Any, data: str, context: Any) -> None:
        """Send it."""
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}
