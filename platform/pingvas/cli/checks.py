"""What `pingvas doctor` looks at; each check says how things are, and how to mend what is wrong."""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pingvas import settings
from pingvas.cli.console import CommandError, expected_errors, explain
from pingvas.embedded import EmbeddedError, Instance, postgres, redis

_PACKAGES = ("celery", "kombu", "flask", "sqlalchemy", "psycopg", "redis", "pydantic", "granian", "flower")
_GPU_PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "peft")
_UNBOUND = """
    SELECT usename || CASE WHEN rolsuper THEN ' (superuser)' WHEN rolbypassrls THEN ' (BYPASSRLS)'
                           ELSE ' (owner)' END || ': ' || count(*) || ' connections'
    FROM pg_stat_activity JOIN pg_roles ON pg_roles.oid = usesysid
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'pingvas'
    AND (rolsuper OR rolbypassrls OR usesysid = (SELECT relowner FROM pg_class WHERE oid = 'users'::regclass))
    GROUP BY usename, rolsuper, rolbypassrls"""
_MIN_FREE_BYTES, _GOOD_FREE_BYTES = 1 << 30, 5 << 30
_PROGRAM_SECONDS = 120.0
_BROKER_SECONDS = 5.0
_DEVICES = (
    "import dataclasses, json, torch; from gpu_worker import devices; "
    "print(json.dumps([torch.__version__, [dataclasses.asdict(d) for d in devices.describe()]]))"
)


@dataclass(frozen=True)
class Finding:
    """One line of the table; `mend` is what to do unless all is well."""

    name: str
    state: Literal["ok", "note", "wrong"]
    text: str
    mend: str = ""


def python() -> Finding:
    """The interpreter."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    good = sys.version_info >= (3, 11)
    return Finding(
        "Python", "ok" if good else "wrong", version, "" if good else "Python 3.11 or newer is needed"
    )


def packages() -> Finding:
    """What the API and the command line need."""
    return _installed("packages", _PACKAGES, "wrong", "pip install pingvas")


def gpu_packages() -> Finding:
    """What a worker needs."""
    mend = "on machines with workers: pip install 'pingvas[gpu]'"
    return _installed("packages of the worker", _GPU_PACKAGES, "note", mend)


def _installed(name: str, wanted: tuple[str, ...], state: Literal["note", "wrong"], mend: str) -> Finding:
    versions, missing = [], []
    for package in wanted:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        return Finding(name, state, f"missing: {', '.join(missing)}", mend)
    return Finding(name, "ok", ", ".join(versions))


def devices() -> Finding:
    """What torch can compute on; asked in a process of its own, since this one has no torch."""
    if importlib.util.find_spec("torch") is None:
        return Finding("devices", "note", "torch is not installed", "needed on machines with workers only")
    try:
        version, found = json.loads(_output([sys.executable, "-c", _DEVICES]).splitlines()[-1])
    except (CommandError, ValueError) as error:
        return Finding(
            "devices", "wrong", f"torch does not work: {error}", "pip install --force-reinstall torch"
        )
    text = f"torch {version}: " + ", ".join(_device(device) for device in found)
    if all(device["kind"] == "cpu" for device in found):
        return Finding("devices", "note", text, "no GPU: small models only; check the driver if there is one")
    return Finding("devices", "ok", text)


def _device(device: dict[str, Any]) -> str:
    total = device["memory_total"]
    return f"{device['name']} ({total / 2**30:.0f} GiB)" if total else str(device["name"])


def plan_table() -> Finding:
    """The plans."""
    from pingvas.billing import plans

    try:
        return Finding("plans", "ok", ", ".join(tier.value for tier in plans.table()))
    except settings.SettingsError as error:
        return Finding("plans", "wrong", str(error), f"correct the file of {settings.variable('plans_file')}")


def embedded_servers() -> Finding:
    """The binaries out of wheels."""
    config = settings.get()
    if config.database_url and config.broker_url:
        return Finding("embedded servers", "ok", "not used: the environment names others")
    try:
        commands = [[str(postgres.binaries() / "postgres"), "--version"], [redis.executable(), "--version"]]
        versions = [_output(command).split(" sha=")[0].strip() for command in commands]
    except (EmbeddedError, CommandError) as error:
        mend = "set DATABASE_URL and BROKER_URL to servers of your own"
        return Finding("embedded servers", "wrong", str(error), mend)
    return Finding("embedded servers", "ok", ", ".join(versions))


def disk(folder: Path) -> Finding:
    """Room and permission to write in the data folder."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("data folder", "wrong", f"{place} cannot be written", "choose another: --data-dir")
    free = shutil.disk_usage(place).free
    text = f"{folder}: {free / 2**30:.1f} GiB free"
    if free >= _GOOD_FREE_BYTES:
        return Finding("data folder", "ok", text)
    return Finding("data folder", "note" if free >= _MIN_FREE_BYTES else "wrong", text, "make room")


def instance(found: Instance | None) -> Finding:
    """The instance of the data folder."""
    if found is None:
        return Finding("instance", "note", "none runs on the data folder", "start it with: pingvas up")
    from pingvas.cli.rest import Client

    if Client(found.url).ready():
        return Finding("instance", "ok", f"{found.url}, Flower at {found.flower_url}")
    return Finding("instance", "wrong", f"{found.url} is not ready", "see logs/api.log in the data folder")


def ports() -> Finding:
    """The usual ports, where no instance has them."""
    from pingvas.cli.up import check_port

    try:
        check_port("127.0.0.1", 8000, "--port")
        check_port("127.0.0.1", 5555, "--flower-port")
    except CommandError as error:
        return Finding("ports", "note", str(error), "pingvas up --port … --flower-port …")
    return Finding("ports", "ok", "8000 and 5555 are free")


def database() -> Finding:
    """The database and its schema."""
    from pingvas import migrations

    def look() -> str:
        now, newest = migrations.current(), migrations.head()
        if now != newest:
            raise CommandError(f"its schema is at {now or 'nothing'}, the newest is {newest}")
        return f"reachable, schema {now}"

    return _reachable(
        "database", look, "start it, or correct DATABASE_URL; for the schema: pingvas db upgrade"
    )


def database_roles() -> Finding:
    """Whom row-level security does not bind, of the processes that are connected."""
    from sqlalchemy import text

    from pingvas import db

    def look() -> str:
        with db.engine().connect() as connection:
            return ", ".join(connection.scalars(text(_UNBOUND)))

    found = _reachable("database roles", look, "see database above")
    if found.state != "ok":
        return found
    if found.text:
        mend = "give each process a role of its own (docs/operations.md)"
        return Finding("database roles", "note", f"row security does not bind: {found.text}", mend)
    return Finding("database roles", "ok", "row security binds every process")


def broker() -> Finding:
    """The broker."""
    from pingvas.jobs.dispatch import probe

    def look() -> str:
        return f"reachable, {probe.version(_BROKER_SECONDS)}"

    return _reachable("broker", look, "start it, or correct BROKER_URL")


def store() -> Finding:
    """The object store."""
    from pingvas import storage

    def look() -> str:
        config = settings.get()
        storage.default().check()
        return f"bucket {config.s3_bucket}" if config.s3_bucket else f"{config.data_dir / 'pictures'}"

    return _reachable("object store", look, "correct the S3_… variables, or the folder's permissions")


def workers() -> Finding:
    """The Celery workers, by their answer to a ping, and those that take no more jobs, by their own word."""
    from pingvas.workers import known

    argv = [sys.executable, "-m", "celery", "-A", "tasks", "inspect", "ping", "--timeout", "5", "--json"]
    try:
        answers = json.loads(_output(argv, cwd=settings.get().data_dir))
    except (CommandError, ValueError):
        answers = {}
    names = sorted(answers)
    for kind in ("gpu", "control"):
        if not any(name.startswith(kind) for name in names):
            mend = "see logs/ in the data folder, or start one (docs/operations.md)"
            return Finding("workers", "wrong", f"no {kind} worker answers", mend)
    leaving = [f"{one.name} is leaving, {one.running} jobs run there" for one in known() if one.draining]
    return Finding("workers", "note" if leaving else "ok", "; ".join([", ".join(names), *leaving]))


def _reachable(name: str, look: Callable[[], str], mend: str) -> Finding:
    try:
        return Finding(name, "ok", look())
    except expected_errors() as error:
        return Finding(name, "wrong", explain(error), mend)


def _output(argv: list[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(  # noqa: S603 (our own programs)
            argv, capture_output=True, text=True, timeout=_PROGRAM_SECONDS, cwd=cwd, check=True
        )
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout).strip().splitlines()
        raise CommandError(lines[-1] if lines else f"status {error.returncode}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(str(error)) from None
    return done.stdout
