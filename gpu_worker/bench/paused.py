"""What a request holds while others take the steps."""

from collections.abc import Iterable

import torch

from gpu_worker.bench import queues
from gpu_worker.bench.subject import Size, Subject
from gpu_worker.bench.tables import show
from gpu_worker.pipelines import LoadedModel
from gpu_worker.stepping.adapters import Adapters
from gpu_worker.stepping.prepare import prepare
from gpu_worker.stepping.trajectory import Trajectory


def report(subject: Subject, sizes: Iterable[Size]) -> None:
    """Bytes of the tensors of one guided picture between two steps."""
    rows = []
    for size in sizes:
        held = held_bytes(trajectory(subject, size))
        name = f"{subject.source.slug} {size[0]}x{size[1]}, {subject.placement.dtype}".replace("torch.", "")
        rows.append((name, f"{held / 2**20:.2f} MiB"))
    show("Memory per paused request", ("", "held"), rows)


def trajectory(subject: Subject, size: Size) -> Trajectory:
    """A request as it is before its first step."""
    model = LoadedModel.of(subject.source, subject.bare)
    request = queues.request(subject.source, "paused", size)
    device = subject.placement.device
    return prepare(subject.family, model, request, Adapters(subject.bare, device), device)


def held_bytes(one: Trajectory) -> int:
    """Latents, the sampler's memory, timesteps and both prompts, wherever they are."""
    tensors = [one.latents, one.base, one.history, one.timesteps, *one.prompt.positive.values()]
    tensors += (one.prompt.negative or {}).values()
    if one.plan is not None:
        tensors.append(one.plan.table)
    storages = {tensor.untyped_storage().data_ptr(): _bytes(tensor) for tensor in tensors}
    return sum(storages.values())


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().nbytes()
