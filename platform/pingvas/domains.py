"""All domains at once: their tables, and what one does when another asks for it."""

from functools import partial
from importlib import import_module

from pingvas import mail
from pingvas.accounts import one_time
from pingvas.accounts.register import AFTER_REGISTER
from pingvas.accounts.users import AFTER_SUSPEND
from pingvas.billing import plans
from pingvas.billing.lemonsqueezy import inbox, variants
from pingvas.billing.wallets import open_wallet
from pingvas.jobs.cancelling import cancel_all
from pingvas.jobs.dispatch import errands

MODELS = (
    "pingvas.audit.models",
    "pingvas.beats.models",
    "pingvas.web.models",
    "pingvas.mail.models",
    "pingvas.accounts.models",
    "pingvas.billing.models",
    "pingvas.billing.subscriptions.models",
    "pingvas.billing.lemonsqueezy.models",
    "pingvas.catalog.models",
    "pingvas.gallery.models",
    "pingvas.jobs.models",
    "pingvas.jobs.dead_letters.models",
    "pingvas.upkeep.models",
)

_deliver_mails = partial(errands.call, "tasks.control.send_mails", rung=True)
_handle_webhooks = partial(errands.call, "tasks.control.handle_webhooks", rung=True)


def load() -> None:
    """Import every table, connect the domains and check the price list; doing it again changes nothing.

    Raises:
        SettingsError: the price list or the list of variants cannot be used.
    """
    plans.prices()
    variants.check()
    for name in MODELS:
        import_module(name)
    if open_wallet not in AFTER_REGISTER:
        AFTER_REGISTER.append(open_wallet)
    if cancel_all not in AFTER_SUSPEND:
        AFTER_SUSPEND.append(cancel_all)
    mail.PREPARE.update(one_time.MAILS)
    if _deliver_mails not in mail.AFTER_SEND:
        mail.AFTER_SEND.append(_deliver_mails)
    if _handle_webhooks not in inbox.AFTER_STORE:
        inbox.AFTER_STORE.append(_handle_webhooks)
