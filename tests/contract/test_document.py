"""What the document promises, tried with thousands of generated requests (`make contract` tries more)."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.contract.conftest import Api

_HERE = Path(__file__).parent
_SECONDS = os.environ.get("CONTRACT_SECONDS", "60")
_CASES = 4_000 if int(_SECONDS) >= 600 else 800
"""How many at least: half of what a machine with two slow and busy cores makes."""
_SEED = os.environ.get("CONTRACT_SEED", "1")


def test_no_request_finds_an_answer_that_is_not_documented(api: Api, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("schemathesis"))]
    command += ["--config-file", str(_HERE / "schemathesis.toml"), "run", f"{api.url}/api/openapi.json"]
    command += ["--max-time", _SECONDS, "--seed", _SEED, "--no-color", "--suppress-health-check", "all"]
    command += ["--report", "json", "--report-json-path", str(tmp_path / "report.json")]
    root = _HERE.parents[1]
    path = os.pathsep.join((str(root), str(root / "platform")))  # of this tree, whatever is installed
    hooks = {"SCHEMATHESIS_HOOKS": "tests.contract.hooks", "PYTHONPATH": path}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=api.environment | hooks,
        capture_output=True,
        text=True,
        check=False,
        timeout=int(_SECONDS) + 300,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    print(done.stdout[done.stdout.index("SUMMARY") :])
    assert _number(r"(\d+) generated", done.stdout) >= _CASES
    # Calls that use what others answered, which is where ids lead to something.
    assert _number(r"Scenarios:\s+(\d+)", done.stdout) > 0
    assert _number(r"API Links:\s+(\d+) covered", done.stdout) > 0
    assert "unexpected error" not in api.log.read_text()
    assert json.loads((tmp_path / "report.json").read_text())


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, text
    return int(found[1])
