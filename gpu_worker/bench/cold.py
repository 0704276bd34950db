"""From the start of a process to its first picture. Run as a module it is that process."""

import json
import subprocess
import sys
import time
from dataclasses import asdict

from gpu_worker.bench.subject import RESULT_SECONDS, Size, Subject
from gpu_worker.bench.tables import show, spread


def report(subject: Subject, size: Size, steps: int, times: int) -> None:
    """Each in a new process, of a model whose files are in the page cache."""
    order = {
        "source": asdict(subject.source),
        "size": size,
        "steps": steps,
        "device": subject.config.device,
        "threads": subject.config.threads,
    }
    ready, picture = [], []
    for _ in range(times):
        start = time.time()
        command = [sys.executable, "-m", "gpu_worker.bench.cold", json.dumps(order)]
        out = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        instants = json.loads(out.stdout.splitlines()[-1])
        ready.append(instants[0] - start)
        picture.append(instants[1] - start)
    rows = [
        ("to an engine that takes requests", spread(ready, " s")),
        (f"to the first picture, {size[0]}x{size[1]}, {steps} steps", spread(picture, " s")),
    ]
    show(
        f"Cold start of {subject.source.slug} (wall, from the process's start)", ("", "median (range)"), rows
    )


def _child(order: dict[str, object]) -> None:
    """Print the instants at which the engine was ready and the picture done."""
    # Imported here: their time is part of what is measured.
    from gpu_worker.bench import queues
    from gpu_worker.config import EngineConfig
    from gpu_worker.engine import Engine
    from gpu_worker.request import ModelSource

    source, size = order["source"], order["size"]
    assert isinstance(source, dict)
    assert isinstance(size, list)
    config = EngineConfig(device=str(order["device"]), threads=order["threads"])  # type: ignore[arg-type]
    with Engine(config) as engine:
        ready = time.time()
        request = queues.request(ModelSource(**source), "first", (size[0], size[1]), steps=order["steps"])
        engine.submit(request).result(RESULT_SECONDS)
        print(json.dumps([ready, time.time()]))


if __name__ == "__main__":
    _child(json.loads(sys.argv[1]))
