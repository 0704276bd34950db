"""One command runs everything: what a newcomer does first, and what may happen to it."""

import base64
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from pingvas.cli.rest import Client
from pingvas.embedded import DataFolder, Instance
from tests.cli.conftest import COMMAND, own_environment, run_command
from tests.conftest import free_port

_START_SECONDS = 120

pytestmark = pytest.mark.timeout(400)


@dataclass
class Up:
    """A running `pingvas up` and what it printed until it served."""

    process: subprocess.Popen[str]
    printed: str
    environment: dict[str, str]
    folder: DataFolder

    def instance(self) -> Instance:
        found = self.folder.running()
        assert found
        return found

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return run_command(self.environment, *arguments)


@pytest.fixture(scope="module")
def data_dir(data_folder: DataFolder) -> Path:
    """Kept from one start to the next."""
    return data_folder.path / "newcomer"


def arguments() -> list[str]:
    return ["up", "--port", str(free_port()), "--flower-port", str(free_port())]


@pytest.fixture(scope="module")
def up(data_dir: Path) -> Iterator[Up]:
    environment = own_environment(data_dir)
    argv = [COMMAND, *arguments()]
    with subprocess.Popen(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        printed = _read_until(process, "Ctrl-C")
        yield Up(process, printed, environment, DataFolder(data_dir))
        process.kill()


def _read_until(process: "subprocess.Popen[str]", words: str) -> str:
    assert process.stdout
    lines: list[str] = []
    deadline = time.monotonic() + _START_SECONDS
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
        assert time.monotonic() < deadline, "".join(lines)
    pytest.fail(f"it ended early:\n{''.join(lines)}")


def colours(file: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the colours of the middle and of a corner."""
    with Image.open(file) as picture:
        small = picture.convert("RGB").resize((16, 16), Image.Resampling.BOX)
        middle, corner = small.getpixel((8, 8)), small.getpixel((0, 0))
    assert isinstance(middle, tuple)
    assert isinstance(corner, tuple)
    return middle, corner


def test_the_first_picture_is_what_was_asked_for(up: Up) -> None:
    middle, corner = colours(up.folder.path / "first-picture.png")
    assert middle.index(max(middle)) == 0, f"the circle is not red: {middle}"
    assert corner.index(max(corner)) == 2, f"the background is not blue: {corner}"
    assert re.search(r"first-picture\.png  [\d.]+ s .* credits? charged, \d+ left", up.printed)


def flower_page(up: Up, path: str) -> str:
    found = re.search(r"Flower +(\S+) \(login (\S+)\)", up.printed)
    assert found
    request = urllib.request.Request(found[1] + path)
    request.add_header("Authorization", f"Basic {base64.b64encode(found[2].encode()).decode()}")
    with urllib.request.urlopen(request) as answer:
        return str(answer.read().decode())


def test_it_prints_addresses_that_work(up: Up) -> None:
    docs = re.search(r"docs at (\S+)", up.printed)
    flower = re.search(r"Flower +(http\S+)", up.printed)
    assert docs
    assert flower
    with urllib.request.urlopen(docs[1]) as answer:
        assert answer.status == 200
    assert "Online workers" in flower_page(up, "/workers")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{flower[1]}/workers")


def test_the_printed_curl_line_makes_a_picture(up: Up) -> None:
    line = re.search(r"curl .*", up.printed)
    assert line
    done = subprocess.run(["bash", "-c", line[0]], capture_output=True, text=True, check=True, timeout=60)
    assert '"status":"completed"' in done.stdout


def test_generate_draws_the_same_picture_from_the_same_seed(up: Up, tmp_path: Path) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    for file in (first, second):
        done = up.run("generate", "a green square on a white background", "--seed", "3", "-o", str(file))
        assert done.returncode == 0, done.stderr
        assert re.search("credits? charged", done.stdout)
    assert Image.open(first).tobytes() == Image.open(second).tobytes()


def test_generate_for_a_tier_uses_an_account_of_that_tier(up: Up, tmp_path: Path) -> None:
    done = up.run(
        "generate", "a red star", "--tier", "studio", "--size", "128", "-o", str(tmp_path / "s.png")
    )
    assert done.returncode == 0, done.stderr
    left = re.search(r"(\d+) left", done.stdout)
    assert left
    assert int(left[1]) > 10_000


def test_what_the_api_refuses_is_one_line(up: Up) -> None:
    done = up.run("generate", "a red circle", "--model", "nonesuch")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nonesuch" in done.stderr


def test_doctor_finds_all_well(up: Up) -> None:
    done = up.run("doctor")
    assert done.returncode == 0, done.stdout
    assert "Nothing is wrong" in done.stdout


def test_operators_see_each_queue_and_who_serves_it(up: Up) -> None:
    assert re.search(r"enterprise +open .* 1 \(4\)", up.run("queues").stdout)
    deadline = time.monotonic() + 60
    while "enterprise" not in (page := flower_page(up, "/broker")):  # Flower asks the workers now and then
        assert time.monotonic() < deadline, page
        time.sleep(0.5)
    assert all(tier in page for tier in ("studio", "pro", "starter", "free", "control"))
    assert "(tier=free, model=tiny, job=" in flower_page(up, "/api/tasks")


def test_a_second_one_on_the_folder_hears_of_the_first(up: Up) -> None:
    done = up.run(*arguments())
    assert done.returncode == 1
    assert f"already runs on {up.folder.path}: {up.instance().url}" in done.stderr


@pytest.mark.parametrize("name", ["gpu-worker", "control-worker", "beat", "api"])
def test_a_program_that_is_killed_comes_back(up: Up, name: str) -> None:
    before = up.instance().processes[name]
    os.killpg(before.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while up.instance().processes[name] == before or not Client(up.instance().url).ready():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # A plan on which one may ask more often than these tests do.
    done = up.run("generate", "a red circle", "--tier", "studio", "-o", str(up.folder.path / "again.png"))
    assert done.returncode == 0, done.stderr


def test_after_kill_9_of_everything_the_next_start_finds_all_of_it(up: Up) -> None:
    """Comes after the tests that need the instance, which it ends."""
    demo = (up.folder.path / "demo.json").read_text()
    processes = up.instance().processes
    os.kill(up.process.pid, signal.SIGKILL)
    for identity in processes.values():
        if identity.process():
            os.killpg(identity.pid, signal.SIGKILL)
    up.process.wait()
    done = run_command(up.environment, *arguments(), "--once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (up.folder.path / "demo.json").read_text() == demo
    assert up.folder.read() is None


def test_a_request_to_stop_is_served_cleanly(up: Up) -> None:
    with subprocess.Popen(
        [COMMAND, *arguments(), "--no-first-picture"],
        env=up.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        _read_until(process, "Ctrl-C")
        assert up.run("queues", "pause", "free").returncode == 0  # for the test that follows
        identities = up.instance().processes.values()
        process.terminate()
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest
    assert not any(identity.process() for identity in identities)
    assert up.folder.read() is None


def test_an_instance_that_cannot_make_a_first_picture_serves_all_the_same(up: Up) -> None:
    argv = [COMMAND, *arguments()]
    with subprocess.Popen(
        argv, env=up.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        printed = _read_until(process, "Ctrl-C")
        assert "No first picture: The queue of the free plan is paused" in printed
        assert Client(up.instance().url).ready()
        process.terminate()
        process.communicate(timeout=60)
