"""Every setting, read from the environment and nowhere else. A bad value names itself at start."""

import re
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0)]

# No pattern and no `*`: flask-cors would take either for a regular expression that lets more in.
_ORIGIN = re.compile(r"https?://[a-z0-9-]+(\.[a-z0-9-]+)*(:[1-9][0-9]{0,4})?")
MIN_SECRET = 32
_DISTINCT = 8  # of 32 random hexadecimal digits, fewer differ once in 28 million
_PLACEHOLDER = re.compile(
    r"change.?(me|this|it)|placeholder|replace.?(me|this)|insert.?your|your.?(secret|key)|x{6}|example|"
    r"secret.?key.?here|not.?(so.?)?secret|insecure|password|12345678",
    re.IGNORECASE,
)
_REDIS, _RABBITMQ = ("redis", "rediss"), ("amqp", "amqps")


class SettingsError(Exception):
    """A setting has no usable value; the text names the variable and what it takes."""


def _named(name: str) -> AliasChoices:
    return AliasChoices(name)


class Settings(BaseSettings):
    """One instance per process, from `settings.get()`. Each field names its environment variable."""

    model_config = SettingsConfigDict(
        env_prefix="PINGVAS_", extra="ignore", frozen=True, populate_by_name=True
    )

    development: bool = Field(
        False, description="Allows what must never happen to customers: `PINGVAS_FAULT`, weak secrets."
    )
    data_dir: Path = Field(Path("var"), description="Folder of embedded servers, pictures, keys and logs.")
    secret_key: SecretStr = Field(
        SecretStr(""), description="Signs sessions and tokens; 32 characters or more."
    )
    public_url: str = Field(
        "", description="Address that clients use; empty: taken from each request, and events carry paths."
    )

    web_url: str = Field(
        "",
        description="Address of the pages that links in mails lead to, and payers come back to; empty: mails "
        "carry codes only.",
    )
    smtp_url: SecretStr = Field(
        SecretStr(""),
        description="Mail server, `smtp://user:password@host:port`, `starttls://` or `smtps://`; "
        "empty: mails go to the control worker's log.",
    )
    mail_from: str = Field("Pingvas <pingvas@localhost>", description="Sender of mails.")

    trusted_proxies: int = Field(
        0, ge=0, le=10, description="Reverse proxies in front that set `X-Forwarded-*`; 0: none is believed."
    )

    internal_token: SecretStr = Field(
        SecretStr(""),
        description="Tokens of internal endpoints, comma-separated: the first is sent, all are accepted.",
    )
    cors_origins: str = Field(
        "", description="Sites whose pages may call the API with a token: `https://app.example.com,…`."
    )

    database_url: str = Field(
        "",
        validation_alias=_named("DATABASE_URL"),
        repr=False,
        description="PostgreSQL; empty: the embedded server.",
    )
    broker_url: str = Field(
        "",
        validation_alias=_named("BROKER_URL"),
        repr=False,
        description="Celery broker, Redis or RabbitMQ (`amqp://`); empty: the embedded Redis.",
    )
    redis_url: str = Field(
        "",
        validation_alias=_named("REDIS_URL"),
        repr=False,
        description="Redis of events; empty: the broker's, if that is Redis.",
    )
    database_pool_size: int = Field(10, ge=1, le=200, description="Connections per process.")

    s3_bucket: str = Field(
        "", validation_alias=_named("S3_BUCKET"), description="Bucket of pictures; empty: a local folder."
    )
    s3_endpoint_url: str | None = Field(
        None, validation_alias=_named("S3_ENDPOINT_URL"), description="S3-compatible server; empty: AWS."
    )
    s3_region: str = Field(
        "us-east-1", validation_alias=_named("S3_REGION"), description="Region of the bucket."
    )
    s3_access_key_id: str | None = Field(
        None, validation_alias=_named("S3_ACCESS_KEY_ID"), description="Empty: boto3's own chain."
    )
    s3_secret_access_key: SecretStr | None = Field(
        None, validation_alias=_named("S3_SECRET_ACCESS_KEY"), description="Goes with the key id."
    )
    s3_prefix: str = Field(
        "", validation_alias=_named("S3_PREFIX"), description="Put before every object key."
    )
    url_seconds: int = Field(900, ge=1, le=604_800, description="Life of a presigned picture URL.")

    plans_file: Path | None = Field(None, description="Price list; empty: the one that is shipped.")

    secret_key_previous: SecretStr = Field(
        SecretStr(""), description="The secret key before the present one: still verifies, signs nothing."
    )

    lemonsqueezy_api_key: SecretStr = Field(
        SecretStr(""), description="Key of Lemon Squeezy's API; empty: nothing is sold."
    )
    lemonsqueezy_store_id: str = Field("", pattern="^[0-9]*$", description="The store.")
    lemonsqueezy_webhook_secret: SecretStr = Field(
        SecretStr(""), description="Signs webhooks; without it they are refused."
    )
    lemonsqueezy_variants: str = Field(
        "",
        description="What the store's variants are: `starter/month=11,starter/year=12,…,1000=21`.",
    )
    lemonsqueezy_url: str = Field(
        "https://api.lemonsqueezy.com",
        pattern="^https?://[^/]+$",
        description="The API; another one for the stand-in only.",
    )

    access_token_seconds: int = Field(900, ge=60, description="Life of an access token.")
    refresh_token_seconds: int = Field(30 * 86_400, ge=3_600, description="Life of a refresh token.")
    max_body_bytes: int = Field(1_048_576, ge=1_024, description="Largest request body (413 above it).")
    idempotency_seconds: int = Field(86_400, ge=60, description="How long an Idempotency-Key is remembered.")

    oauth_google_id: str = Field("", description="Client id at Google; empty: no sign-in with Google.")
    oauth_google_secret: SecretStr = Field(SecretStr(""), description="Goes with the client id.")
    oauth_google_metadata_url: str = Field(
        "https://accounts.google.com/.well-known/openid-configuration",
        description="OpenID Connect discovery document of Google.",
    )
    oauth_discord_id: str = Field("", description="Client id at Discord; empty: no sign-in with Discord.")
    oauth_discord_secret: SecretStr = Field(SecretStr(""), description="Goes with the client id.")
    oauth_discord_url: str = Field("https://discord.com", description="Address of Discord.")

    login_attempts: int = Field(
        5, ge=0, description="Failed sign-ins an address may have in `PINGVAS_LOGIN_SECONDS`; 0: no limit."
    )
    login_seconds: int = Field(300, ge=1, description="Window in which failed sign-ins are counted.")
    lockout_attempts: int = Field(
        10,
        ge=0,
        description="Failed sign-ins in a row that cost an account no time, an address five times as many; "
        "then each wait is double the last, 15 s to 15 min; 0: no lock-out.",
    )
    anonymous_per_minute: int = Field(
        50, ge=0, description="Changes an address may ask for without signing in; 0: no limit."
    )
    writes_per_minute: int = Field(
        100, ge=0, description="Changes a user may ask for, generating apart; 0: no limit."
    )
    reads_per_minute: int = Field(1_200, ge=0, description="Reads a user may ask for; 0: no limit.")

    lease_seconds: Seconds = Field(
        30, description="A running job unheard of for so long is given to another worker."
    )
    heartbeat_seconds: Seconds = Field(
        2, description="How often a worker renews its leases, and hears of cancelled jobs."
    )
    sweep_seconds: Seconds = Field(15, description="Period of the sweep over leases and unanswered rows.")
    ring_again_seconds: Seconds = Field(
        60, description="A waiting row is rung again after so long at the earliest."
    )
    job_deadline_seconds: Seconds = Field(
        300, description="Running time after which a job is stopped, unless its plan or its quote gives more."
    )
    max_attempts: int = Field(3, ge=1, le=20, description="Attempts before a job is failed.")
    routing: Literal["tier", "family"] = Field(
        "tier", description="`family`: each tier has a queue per model family, for workers that hold few."
    )
    queue_order: Literal["weighted", "strict"] = Field(
        "weighted",
        description="`weighted`: below enterprise, tiers share by the plans' weights; `strict`: none shares.",
    )
    worker_concurrency: int = Field(4, ge=1, le=64, description="Jobs one GPU worker has in flight.")
    pinned_models: str = Field(
        "", description="Slugs of models that a GPU worker loads at its start and keeps; comma-separated."
    )
    worker_grace_seconds: float = Field(20, ge=0, description="Time a stopping worker lets its step finish.")
    store_patience_seconds: float = Field(
        120,
        ge=0,
        description="How long a worker tries to deliver finished pictures before the attempt fails.",
    )
    kept_bytes: int = Field(
        1_073_741_824, ge=0, description="Finished pictures a worker keeps in `kept/` of the data folder."
    )
    stuck_seconds: Seconds = Field(
        300, description="A worker whose GPU finishes no step for so long, with jobs to run, is not alive."
    )
    health_port: int = Field(
        0, ge=0, le=65_535, description="Where a worker or beat answers `/healthz` and `/readyz`; 0: nowhere."
    )
    health_host: str = Field("127.0.0.1", description="Address of `PINGVAS_HEALTH_PORT`.")
    spot_metadata_url: str = Field(
        "",
        pattern="^(https?://.+)?$",
        description="EC2's instance metadata, `http://169.254.169.254`: a worker heeds a spot interruption.",
    )
    orphan_seconds: Seconds = Field(
        86_400, description="Age from which an object of the store that has no row is deleted."
    )
    history_days: int = Field(
        90, ge=1, description="Days that failed attempts, closed dead letters and sent mails are kept."
    )
    metrics_host: str = Field("127.0.0.1", description="Address of `/metrics`; none that customers reach.")
    metrics_port: int = Field(
        0, ge=0, le=65_535, description="Port of `/metrics`, served by the control worker; 0: not served."
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING, ERROR."
    )
    fault: str = Field(
        "",
        pattern="^([a-z]+:[1-9][0-9]*)?$",
        description="`stored:3`: the process kills itself as it passes that point of a job a third time.",
    )

    @field_validator("secret_key", "secret_key_previous", mode="after")
    @classmethod
    def _not_guessable(cls, secret: SecretStr, info: ValidationInfo) -> SecretStr:
        text = secret.get_secret_value()
        if text and not info.data.get("development"):
            _check_secret(text)
        return secret

    @field_validator("internal_token", mode="after")
    @classmethod
    def _none_guessable(cls, tokens: SecretStr, info: ValidationInfo) -> SecretStr:
        for token in _listed(tokens.get_secret_value()):
            if not info.data.get("development"):
                _check_secret(token)
        return tokens

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, text: str) -> str:
        for origin in _listed(text):
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin such as https://app.example.com")
        return text

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, url: str) -> str:
        return _of_scheme(url, "postgresql", "postgres", "postgresql+psycopg")

    @field_validator("smtp_url")
    @classmethod
    def _smtp(cls, url: SecretStr) -> SecretStr:
        _of_scheme(url.get_secret_value(), "smtp", "starttls", "smtps")
        return url

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, url: str) -> str:
        return _of_scheme(url, *_REDIS, *_RABBITMQ)

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, url: str, info: ValidationInfo) -> str:
        if not url and is_rabbitmq(info.data.get("broker_url", "")):
            raise ValueError("needed for events, since the broker is RabbitMQ: redis://…")
        return _of_scheme(url, *_REDIS)

    @field_validator("heartbeat_seconds", mode="after")
    @classmethod
    def _renewed_in_time(cls, seconds: float, info: ValidationInfo) -> float:
        lease = info.data.get("lease_seconds")
        if lease is not None and 2 * seconds > lease:
            raise ValueError(
                f"must be at most half of {variable('lease_seconds')} ({lease:g}), not {seconds:g}"
            )
        return seconds

    @field_validator("fault", mode="after")
    @classmethod
    def _in_development(cls, fault: str, info: ValidationInfo) -> str:
        if fault and not info.data.get("development"):
            raise ValueError(f"only with {variable('development')}=true")
        return fault

    @property
    def internal_tokens(self) -> list[str]:
        """Tokens of internal endpoints, the one to send first."""
        return _listed(self.internal_token.get_secret_value())

    @property
    def cors_list(self) -> list[str]:
        """Origins whose pages may read answers."""
        return _listed(self.cors_origins)

    @property
    def events_url(self) -> str:
        """Redis URL of the event streams."""
        return self.redis_url or self.broker_url


def is_rabbitmq(url: str) -> bool:
    """Whether a broker's URL is RabbitMQ's; else it is Redis's."""
    return url.partition("://")[0] in _RABBITMQ


def _check_secret(text: str) -> None:
    if len(text) < MIN_SECRET:
        raise ValueError(f"{MIN_SECRET} random characters or more are needed")
    if _PLACEHOLDER.search(text) or len(set(text)) < _DISTINCT:
        raise ValueError("this is a placeholder; make one: openssl rand -hex 32")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _of_scheme(url: str, *schemes: str) -> str:
    if url and url.partition("://")[0] not in schemes:
        raise ValueError(f"must begin with {schemes[0]}://")
    return url


def variable(field: str) -> str:
    """Return the environment variable that sets `field`."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"PINGVAS_{field.upper()}"


@cache
def get() -> Settings:
    """Return the settings of this process.

    Raises:
        SettingsError: a variable has a value that cannot be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(problem) for problem in error.errors())) from None


def _explain(problem: object) -> str:
    loc, message = problem["loc"], problem["msg"]  # type: ignore[index]
    name = str(loc[0])
    field = name if name in Settings.model_fields else None
    return f"{variable(field) if field else name}: {message.removeprefix('Value error, ')}"


def markdown() -> str:
    """Return every setting as the table of docs/operations.md."""
    lines = ["| variable | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        shown = "" if default in ("", None) else f"`{default}`"
        lines.append(f"| `{variable(name)}` | {shown} | {field.description} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(markdown() + "\n")
