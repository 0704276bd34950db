"""What Schemathesis is told beside the document: whom it acts for."""

from io import BytesIO
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import schemathesis
from PIL import Image

from pingvas import db, domains, ids
from pingvas.accounts.register import register
from pingvas.accounts.tokens import sign_in
from pingvas.billing import ledger
from pingvas.gallery import pictures
from pingvas.jobs import dispatch, lifecycle, submit
from pingvas.jobs.lifecycle import Claim, Failure
from pingvas.jobs.submit import Order

domains.load()


def _make_picture(user_id: UUID) -> None:
    held = _started(user_id)
    encoded = SimpleNamespace(
        png=_red("PNG"),
        thumbnails=dict.fromkeys(pictures.THUMBNAIL_SIDES, _red("WEBP")),
        width=64,
        height=64,
        seed=1,
    )
    lifecycle.complete(held, [pictures.store(user_id, ids.new(), encoded)], 1.0)


def _red(kind: str) -> bytes:
    out = BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, kind)
    return out.getvalue()


def _fail(user_id: UUID) -> None:
    lifecycle.fail(_started(user_id), Failure("MODEL_UNAVAILABLE", "No such model.", retryable=False))


def _started(user_id: UUID) -> Claim:
    job_id = submit.submit(user_id, "enterprise", Order(prompt="a red circle", seed=1)).job_id
    dispatch.flush()
    held = lifecycle.claim(job_id, "contract")
    assert held is not None
    return held


@schemathesis.auth(refresh_interval=2)
class Auth:
    """An admin with credits, pictures, dead letters. What is generated may sign out, hence new sign-ins."""

    def __init__(self) -> None:
        self.user = register(
            f"{uuid4().hex}@example.com", "correct horse battery", tier="enterprise", role="admin"
        )
        ledger.grant(self.user.id, 10**9, business_key=f"contract:{self.user.id}")
        for _ in range(3):
            _make_picture(self.user.id)
            _fail(self.user.id)

    def get(self, case: Any, context: Any) -> str:
        """Return an access token."""
        with db.transaction() as session:
            return sign_in(session, self.user, second_factor=True).access_token

    def set(self, case: Any, data: str, context: Any) -> None:
        """Send it."""
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}
