"""The WSGI application: `create_app()`."""

import logging
from functools import cache
from importlib.metadata import version

from apiflask import APIFlask
from sqlalchemy import text
from werkzeug.middleware.proxy_fix import ProxyFix

from pingvas import admin, db, domains, logs, roles, settings, storage
from pingvas.accounts import principals
from pingvas.accounts.views import bp as accounts
from pingvas.billing import plans
from pingvas.billing.lemonsqueezy.views import bp as payments
from pingvas.billing.views import bp as billing
from pingvas.catalog.views import bp as catalog
from pingvas.gallery.views import bp as gallery
from pingvas.jobs.dispatch import probe
from pingvas.jobs.views import bp as jobs
from pingvas.web import auth, docs, headers, health, limits, openapi, problem, request_id

log = logging.getLogger(__name__)

BLUEPRINTS = (
    accounts,
    billing,
    payments,
    catalog,
    gallery,
    jobs,
    *admin.BLUEPRINTS,
)


def create_app() -> APIFlask:
    """Make the application from the settings.

    Raises:
        SettingsError: a setting is missing or cannot be used.
    """
    _log()
    domains.load()
    app = APIFlask(
        "pingvas",
        title="Pingvas",
        version=version("pingvas"),
        spec_path=docs.SPEC_PATH,
        docs_path=None,
        static_folder=None,  # type: ignore[arg-type]
        json_errors=False,
    )
    if hops := settings.get().trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    app.config["MAX_CONTENT_LENGTH"] = settings.get().max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # The order matters: hooks after a request run in reverse, and each sees what the later ones did.
    request_id.init_app(app)
    headers.init_app(app)
    problem.init_app(app)
    limits.init_app(app, lambda tier: plans.limit(plans.of(tier).generate_per_minute))
    auth.init_app(app, bearer=(principals.by_token, principals.by_key), by_session=principals.by_session)
    openapi.init_app(app)
    docs.init_app(app)
    health.init_app(app, {"database": _database, "broker": _broker, "store": _store})
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app


def _log() -> None:
    logging.basicConfig(level=settings.get().log_level)
    for handler in logging.getLogger().handlers:
        handler.addFilter(request_id.LogFilter())
    logs.apply(logging.getLogger(), "%(asctime)s %(levelname)s %(name)s [%(request_id)s]: %(message)s")


def _database() -> None:
    with db.engine().connect() as connection:
        _warn_of_owner(bool(connection.scalar(text(roles.BOUND))))


@cache
def _warn_of_owner(bound: bool) -> None:
    """Say once, as soon as the database is there, that nothing keeps users apart in it."""
    if not bound:
        log.warning(
            "DATABASE_URL signs in as the tables' owner or a superuser, whom row-level security does not "
            "bind: give the API the role %s (docs/operations.md)",
            roles.API,
        )


def _broker() -> None:
    probe.version(health.TIMEOUT_SECONDS)


def _store() -> None:
    storage.default().check()
