"""What it costs to change: another model, another LoRA."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import diffusers
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from gpu_worker.bench import queues
from gpu_worker.bench.subject import RESULT_SECONDS, Size, Subject
from gpu_worker.bench.tables import show, spread
from gpu_worker.engine import Engine
from gpu_worker.memory.budgets import GIB
from gpu_worker.memory.sources import estimated_bytes
from gpu_worker.pipelines import load
from gpu_worker.request import GenerationRequest, LoraSource, ModelSource

_hub: Any = diffusers  # whose calls are not typed


def seconds_of(engine: Engine, request: GenerationRequest, name: str) -> float:
    """Wall seconds from submitting a request alone to its result."""
    start = time.perf_counter()
    engine.submit(replace(request, id=name)).result(RESULT_SECONDS)
    return time.perf_counter() - start


def models(subject: Subject, other: ModelSource, size: Size, times: int) -> None:
    """Requests of one step for two models in turn, where the device has room for the larger alone.

    The first use reads from disk. Later ones come from host memory, on a CPU from the page cache.
    """
    pair = [queues.request(source, "r", size, steps=1) for source in (subject.source, other)]
    width = torch.empty((), dtype=subject.placement.dtype).element_size()
    room = max(estimated_bytes(one.model.location, width) for one in pair) * 1.2 / GIB
    with Engine(replace(subject.config, model_memory_gib=room)) as engine:
        first = seconds_of(engine, pair[0], "first")
        again = [seconds_of(engine, pair[0], f"again-{n}") for n in range(times)]
        seconds_of(engine, pair[1], "other")
        turns = [seconds_of(engine, pair[n % 2], f"turn-{n}") for n in range(2 * times)]
    base = median(again)
    rows = [
        ("first use, read from disk", spread([1000 * (first - base)], " ms")),
        ("the other model again", spread([1000 * (one - base) for one in turns], " ms")),
        ("for comparison, one step of the model in force", spread([1000 * one for one in again], " ms")),
    ]
    show("Model switch (wall, beyond a request without one)", ("", "median (range)"), rows)


def loras(subject: Subject, size: Size, folder: Path, times: int) -> None:
    """A LoRA's first use, its next ones, and what LoRAs add to a step of four requests."""
    styles = [make_lora(subject, folder / f"lora-{n}", n) for n in range(max(4, times))]
    plain = queues.request(subject.source, "r", size, steps=1)
    with Engine(subject.config) as engine:
        seconds_of(engine, plain, "load")
        base = median(seconds_of(engine, plain, f"plain-{n}") for n in range(times))
        bare = [_step_seconds(subject, engine, size, [()] * 4, f"none-{n}") for n in range(times)]
        first = [_with(engine, plain, style, "first") for style in styles[:times]]
        again = [_with(engine, plain, style, "again") for style in styles[:times]]
        one = [_step_seconds(subject, engine, size, [(styles[0],)] * 4, f"one-{n}") for n in range(times)]
        four = [
            _step_seconds(subject, engine, size, [(style,) for style in styles[:4]], f"four-{n}")
            for n in range(times)
        ]
    rows = [
        ("first use: file, layers, request of one step", spread([1000 * (s - base) for s in first], " ms")),
        ("next use: request of one step", spread([1000 * (s - base) for s in again], " ms")),
        ("step of four requests, one LoRA in all", f"{median(one) / median(bare):.2f}x"),
        ("step of four requests, four LoRAs", f"{median(four) / median(bare):.2f}x"),
    ]
    show("LoRA switch (beyond the same without LoRAs)", ("", "median (range)"), rows)


def copy_of(source: ModelSource, folder: Path) -> ModelSource:
    """The same model as another one."""
    shutil.copytree(source.location, folder)
    return replace(source, slug=f"{source.slug}-2", location=str(folder))


def make_lora(subject: Subject, folder: Path, seed: int) -> LoraSource:
    """Random matrices of rank 8 for all attention layers of the denoiser."""
    torch.manual_seed(seed)
    pipe = load(subject.source, subject.placement.dtype)
    pipe.unet.add_adapter(LoraConfig(r=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    layers = get_peft_model_state_dict(pipe.unet)
    type(pipe).save_lora_weights(folder, unet_lora_layers=layers)
    return LoraSource(f"style-{seed}", str(next(folder.glob("*.safetensors"))))


def _with(engine: Engine, request: GenerationRequest, style: LoraSource, name: str) -> float:
    return seconds_of(engine, replace(request, loras=(style,)), f"{name}-{style.slug}")


def _step_seconds(
    subject: Subject, engine: Engine, size: Size, uses: Sequence[tuple[LoraSource, ...]], name: str
) -> float:
    """Seconds of four requests together, mostly steps."""
    base = queues.uniform(subject.source, size, len(uses), steps=8)
    queue = [replace(one, loras=loras) for one, loras in zip(base, uses, strict=True)]
    spent = subject.run_engine(engine, queue, name)
    return spent.wall if subject.placement.device.type == "cuda" else spent.device_thread
