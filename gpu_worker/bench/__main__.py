"""Run the benchmarks: `python -m gpu_worker.bench cpu`, or `gpu`; with names behind it, only those.

cpu: the built-in model, one thread, by processor time; about seven minutes on two cores.
gpu: random weights in the true sizes of Stable Diffusion 1.5 and SDXL, under eight minutes on an H200; about
ten gigabytes of temporary files; no network.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from gpu_worker import devices
from gpu_worker.bench import arrivals, cold, first_step, gains, paused, queues, random_models, switching
from gpu_worker.bench.efficiency import measure, report
from gpu_worker.bench.subject import Subject
from gpu_worker.builtin import BUILTIN_TINY
from gpu_worker.config import EngineConfig
from gpu_worker.request import ModelSource
from gpu_worker.scheduling import SchedulingConfig

Benchmarks = Mapping[str, Callable[[], None]]
ARRIVALS = 1000


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m gpu_worker.bench", description=__doc__)
    parser.add_argument("device", choices=("cpu", "gpu"))
    parser.add_argument("only", nargs="*", help="names of benchmarks; all if none is given")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pingvas-bench-") as folder:
        benchmarks = (on_cpu if chosen.device == "cpu" else on_gpu)(Path(folder))
        unknown = [name for name in chosen.only if name not in benchmarks]
        if unknown:
            parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(benchmarks)}")
        for name, run in benchmarks.items():
            if not chosen.only or name in chosen.only:
                start = time.perf_counter()
                run()
                print(f"({name}: {time.perf_counter() - start:.0f} s)\n", flush=True)


def on_cpu(folder: Path) -> Benchmarks:
    """The built-in model on one thread.

    The step budget is lifted: on one slow core it would keep batches small, which the GPU for which this
    stands would not do.
    """
    torch.set_num_threads(1)
    _say(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, one thread, fp32")
    scheduling = SchedulingConfig(step_budget_seconds=2.0)
    config = EngineConfig(device="cpu", threads=1, encode_workers=1, scheduling=scheduling)
    subject = Subject.of(BUILTIN_TINY, config)
    size = (128, 128)

    def efficiency() -> None:
        queue = queues.mixed(BUILTIN_TINY, [size, (192, 128)], 48, (15, 30))
        found = measure(subject, queue, rounds=1, bare_seconds=0.6)
        report("Mixed queue: 2 sizes, 7 samplers, 15 to 30 steps", subject, found, (">= 0.85", "", ""))

    def throughput() -> None:
        queue = queues.uniform(BUILTIN_TINY, size, 12, 20)
        found = measure(subject, queue, rounds=1, bare_seconds=0.6)
        report("Uniform queue: 12 pictures, Euler, 20 steps", subject, found, (">= 0.85", "", ""))

    return {
        "efficiency": efficiency,
        "throughput": throughput,
        "first-step": lambda: first_step.report(ARRIVALS),
        "model-switch": lambda: switching.models(
            subject, switching.copy_of(BUILTIN_TINY, folder / "copy"), size, 3
        ),
        "lora-switch": lambda: switching.loras(subject, size, folder, 3),
        "cold-start": lambda: cold.report(subject, size, 20, 2),
        "paused": lambda: paused.report(subject, [size]),
        "gains": lambda: gains.report(subject, size, seconds=0.3, compiled=False),
    }


def on_gpu(folder: Path) -> Benchmarks:
    """True sizes on the first CUDA device, in the dtype that the engine chooses there."""
    if not torch.cuda.is_available():
        sys.exit("no CUDA device on this machine")
    config = EngineConfig(device="cuda")
    placement = devices.choose(config)
    name = devices.device_name(placement.device)
    _say(f"{name}, CUDA {torch.version.cuda}, {placement.dtype}; bars are for an H200")
    subjects: dict[str, Subject] = {}

    def subject(family: str) -> Subject:
        """Built when it is needed first."""
        if family not in subjects:
            save = random_models.save_sd15 if family == "sd15" else random_models.save_sdxl
            source: ModelSource = save(folder / family, placement.device, placement.dtype)
            subjects[family] = Subject.of(source, config)
        return subjects[family]

    def mixed() -> None:
        one = subject("sd15")
        queue = queues.mixed(one.source, [(512, 512), (512, 768)], 48, (15, 30))
        found = measure(one, queue, rounds=1, bare_seconds=0.5)
        report("SD 1.5, mixed queue: 2 sizes, 7 samplers", one, found, (">= 0.95", "<= 3 %", ""))

    def uniform(family: str, edge: int, number: int, speedup: str) -> None:
        one = subject(family)
        queue = queues.uniform(one.source, (edge, edge), number, 25)
        found = measure(one, queue, rounds=1, bare_seconds=0.5)
        title = f"{one.source.slug} {edge}x{edge}, {number} pictures, Euler, 25 steps"
        report(title, one, found, (">= 0.95", "<= 3 %", speedup))

    def held() -> None:
        paused.report(subject("sd15"), [(512, 512)])
        paused.report(subject("sdxl"), [(1024, 1024)])

    return {
        "efficiency": mixed,
        "sd15": lambda: uniform("sd15", 512, 32, ">= 3x"),
        "first-step": lambda: arrivals.report(subject("sd15"), (512, 512), ARRIVALS),
        "lora-switch": lambda: switching.loras(subject("sd15"), (512, 512), folder, 4),
        "cold-start": lambda: cold.report(subject("sd15"), (512, 512), 20, 2),
        "sdxl": lambda: uniform("sdxl", 1024, 8, ">= 1.3x"),
        "model-switch": lambda: switching.models(subject("sdxl"), subject("sd15").source, (512, 512), 3),
        "paused": held,
        "gains": lambda: gains.report(subject("sd15"), (512, 512), seconds=0.3, compiled=True),
    }


def _say(machine: str) -> None:
    hub: Any = diffusers  # whose calls are not typed
    for library in (hub, transformers):
        library.utils.logging.set_verbosity_error()  # nothing but tables
    warnings.filterwarnings("ignore", module="peft")
    python = platform.python_version()
    print(f"{machine}; Python {python}, torch {torch.__version__}, diffusers {diffusers.__version__}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
