"""Commands on rows: users, models, queues, schema."""

import getpass
import re
import socket
from pathlib import Path
from uuid import UUID

from sqlalchemy import select, text

from pingvas import cached, db, migrations
from pingvas.accounts import login
from pingvas.audit.models import AuditEntry
from pingvas.cli import stuck
from tests.cli.conftest import Run, own_environment, run_command

EMAIL = "ada@example.com"


def column(name: str) -> object:
    with db.transaction() as session:
        return session.scalar(text(f"SELECT {name} FROM users WHERE email = :email"), {"email": EMAIL})


def test_user_create_shows_a_password_once_that_works(pingvas: Run) -> None:
    done = pingvas("user", "create", EMAIL, "--tier", "pro", "--role", "admin")
    assert done.returncode == 0
    password = done.stdout.strip().rpartition(" ")[2]
    user, _ = login.authenticate(EMAIL, password)
    assert (user.tier, user.role) == ("pro", "admin")


def test_user_create_with_a_password_does_not_print_it(pingvas: Run) -> None:
    done = pingvas("user", "create", EMAIL, "--password", "correct horse battery")
    assert "correct horse" not in done.stdout + done.stderr
    assert login.authenticate(EMAIL, "correct horse battery")[0].email == EMAIL


def test_an_address_twice_is_one_red_line(pingvas: Run) -> None:
    pingvas("user", "create", EMAIL)
    done = pingvas("user", "create", EMAIL)
    assert done.returncode == 1
    assert done.stderr == "This e-mail address has an account\n"


def test_user_grant_and_set_tier(pingvas: Run) -> None:
    pingvas("user", "create", EMAIL)
    done = pingvas("user", "grant", EMAIL, "50", "--reason", "sorry")
    assert done.stdout == f"✓ {EMAIL} has 150 credits\n"
    assert pingvas("user", "set-tier", EMAIL, "studio").returncode == 0
    assert column("tier") == "studio"
    assert pingvas("user", "grant", "nobody@example.com", "5").stderr.startswith(
        "There is no account nobody@"
    )


def test_what_is_done_at_a_terminal_stands_in_the_trail(pingvas: Run, tmp_path: Path) -> None:
    pingvas("user", "create", EMAIL)
    pingvas("user", "grant", EMAIL, "50", "--reason", "sorry")
    pingvas("user", "set-tier", EMAIL, "studio")
    pingvas("models", "add", "mine", "someone/sd15", "--family", "sd15")
    drained = pingvas("queues", "drain", "free")
    assert drained.returncode == 0, drained
    resumed = pingvas("queues", "resume", "free")
    assert resumed.returncode == 0, resumed
    with db.transaction() as session:
        acts = list(session.scalars(select(AuditEntry).order_by(AuditEntry.id)))
    assert [act.action for act in acts] == [
        "users.create",
        "users.credits",
        "users.change",
        "models.add",
        "tiers.change",
        "tiers.change",
    ]
    assert {act.actor for act in acts} == {f"cli:{getpass.getuser()}@{socket.gethostname()}"}
    assert acts[1].after["reason"] == "sorry"
    assert (acts[2].before["tier"], acts[2].after["tier"]) == ("free", "studio")
    assert (acts[4].before, acts[4].after) == ({"state": "open"}, {"state": "draining"})


def test_taking_more_than_there_is_changes_nothing(pingvas: Run) -> None:
    pingvas("user", "create", EMAIL)
    done = pingvas("user", "grant", EMAIL, "-500")
    assert done.returncode == 1
    assert "credits" in done.stderr
    assert pingvas("user", "grant", EMAIL, "1").stdout == f"✓ {EMAIL} has 101 credits\n"


def test_models_list_and_add(pingvas: Run, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    done = pingvas("models", "add", "house", str(tmp_path), "--min-tier", "pro", "--price-factor", "2")
    assert done.stdout.startswith("✓ house: sdxl from ")
    listed = pingvas("models", "list").stdout
    assert re.search(r"house\b.*sdxl.*× 2.*pro", listed)
    assert re.search(r"tiny\b.*builtin:tiny.*free", listed)
    again = pingvas("models", "add", "house", str(tmp_path))
    assert (again.returncode, again.stderr) == (1, "The catalogue has a model 'house' already.\n")
    assert "no model folder" in pingvas("models", "add", "other", "/nowhere").stderr


def test_queues_shows_every_tier(pingvas: Run) -> None:
    done = pingvas("queues")
    assert done.returncode == 0
    assert [
        name for name in ("enterprise", "studio", "pro", "starter", "free") if name not in done.stdout
    ] == []


def test_a_tier_is_paused_drained_and_resumed(pingvas: Run) -> None:
    done = pingvas("queues", "pause", "free")
    assert done.stderr == ""
    assert done.stdout == "✓ free is paused, it was open\n"
    assert pingvas("queues", "drain", "pro").stdout == "✓ pro is draining, it was open\n"
    shown = pingvas("queues").stdout
    assert re.search(r"free +paused", shown)
    assert re.search(r"pro +draining", shown)
    assert pingvas("queues", "resume", "free").stdout == "✓ free is open, it was paused\n"
    assert re.search(r"free +open", pingvas("queues").stdout)
    assert "enterprise" in pingvas("queues", "pause", "gold").stderr


def test_without_an_instance_a_database_is_started_for_the_command(server_tmp: Path) -> None:
    environment = own_environment(server_tmp / "data")
    assert str(migrations.head()) in run_command(environment, "db", "upgrade").stdout
    done = run_command(environment, "user", "create", EMAIL)
    assert UUID(re.search(r"is (\S+)\n", done.stdout)[1])  # type: ignore[index]
    assert run_command(environment, "db", "current").stdout.startswith(str(migrations.head()))
    assert run_command(environment, "user", "create", EMAIL).returncode == 1  # it was kept
    assert not (server_tmp / "data" / "instance.json").exists()


def test_an_external_schema_is_not_changed_behind_its_owners_back(pingvas: Run) -> None:
    with db.engine().begin() as connection:
        connection.execute(text("ALTER TABLE users RENAME TO users_away"))
    try:
        done = pingvas("user", "grant", EMAIL, "5")
        assert done.returncode == 1
        assert done.stderr.strip().endswith("Run: pingvas db upgrade")
    finally:
        with db.engine().begin() as connection:
            connection.execute(text("ALTER TABLE users_away RENAME TO users"))


def test_the_only_model_is_removed_on_purpose_only_and_doctor_says_how_to_mend_it(pingvas: Run) -> None:
    done = pingvas("models", "remove", "tiny")
    assert done.returncode == 1
    assert "the only model" in done.stderr
    assert pingvas("models", "remove", "tiny", "--yes").returncode == 0
    wrong = stuck.models()
    assert (wrong.state, wrong.mend) == ("wrong", "pingvas models add tiny builtin:tiny")
    assert pingvas(*wrong.mend.split()[1:]).returncode == 0
    cached.forget_all()
    assert stuck.models().text == "tiny"
