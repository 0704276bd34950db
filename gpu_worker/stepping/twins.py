"""Compiled denoisers, made and warmed up beside the running steps.

A twin is a second tree of modules over the same weights whose repeated blocks are compiled. Compilation takes
from seconds to minutes for each size of a batch: a thread of its own runs the twin on a copy of a real step's
inputs, and only when that is done do steps of this size use it. No customer's request waits for it.
"""

import copy
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from gpu_worker.families.base import Conditions, Family
from gpu_worker.outcomes import caught

log = logging.getLogger(__name__)

CLOSE_SECONDS = 20.0

# Keeps a pipeline's weights where they are; returns what lets go of them, None when they are gone already.
Hold = Callable[[], Callable[[], None] | None]
Shape = tuple[object, ...]


@dataclass(eq=False, slots=True)
class _Twin:
    """A pipeline whose denoiser is compiled, and the shapes it is warm for or has been asked for."""

    pipe: Any
    hold: Hold
    asked: set[Shape] = field(default_factory=set)
    warm: set[Shape] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    twin: _Twin
    family: Family
    shape: Shape
    latents: torch.Tensor
    timesteps: torch.Tensor
    conditions: Conditions
    ready: Any  # the event after which these inputs exist, on CUDA


class Twins:
    """Used by the GPU thread; the rehearsals run on a thread of this object's own.

    `options` go to `torch.compile`. Shapes are static: as many graphs as there are buckets and sizes.
    """

    def __init__(self, **options: Any) -> None:
        self._options: dict[str, Any] = {"fullgraph": False, "dynamic": False, **options}
        self._twins: dict[Any, _Twin] = {}
        self._rehearsals: queue.SimpleQueue[_Rehearsal | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._rehearse, name="compiler", daemon=True)
        self._thread.start()

    def __contains__(self, pipe: object) -> bool:
        return pipe in self._twins

    def add(self, pipe: Any, family: Family, hold: Hold) -> None:
        """Compile this pipeline's denoiser. Nothing may be attached to it now: no LoRAs, no offloading."""
        self._twins[pipe] = _Twin(twin_of(pipe, family, self._options), hold)

    def drop(self, pipe: Any) -> None:
        """Forget a pipeline whose weights may leave the device; a rehearsal under way still holds them."""
        self._twins.pop(pipe, None)

    def close(self) -> None:
        """Start no more rehearsals, and wait a while for one under way: compilation cannot be stopped, and
        a thread that is inside it when the process ends takes the process down loudly."""
        self._closed = True
        self._twins.clear()
        self._rehearsals.put(None)
        self._thread.join(CLOSE_SECONDS)

    def pipe_for(
        self,
        pipe: Any,
        family: Family,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditions: Conditions,
    ) -> Any:
        """The compiled pipeline if it is warm for these shapes, else the pipeline itself."""
        twin = self._twins.get(pipe)
        if twin is None:
            return pipe
        shape = (tuple(latents.shape), *sorted((n, tuple(t.shape)) for n, t in conditions.items()))
        if shape in twin.warm:
            return twin.pipe
        if shape not in twin.asked:
            twin.asked.add(shape)
            own = {name: tensor.clone() for name, tensor in conditions.items()}
            ready = torch.cuda.current_stream(latents.device).record_event() if latents.is_cuda else None
            self._rehearsals.put(
                _Rehearsal(twin, family, shape, latents.clone(), timesteps.clone(), own, ready)
            )
        return pipe

    def _rehearse(self) -> None:
        while (one := self._rehearsals.get()) is not None and not self._closed:
            release = one.twin.hold()
            if release is None:
                one.twin.asked.discard(one.shape)
                continue
            outcome = caught(lambda one=one: _run(one))  # type: ignore[misc]
            if isinstance(outcome, Exception):
                log.warning("compiling for %s failed, so it runs as it is: %s", one.shape, outcome)
            else:
                one.twin.warm.add(one.shape)
            release()


def twin_of(pipe: Any, family: Family, options: dict[str, Any]) -> Any:
    """The same pipeline with a denoiser of its own over the same weights, its blocks to be compiled."""
    denoiser = family.denoiser(pipe)
    shared = {id(tensor): tensor for tensor in (*denoiser.parameters(), *denoiser.buffers())}
    other = copy.deepcopy(denoiser, shared)
    if getattr(other, "_repeated_blocks", None):
        other.compile_repeated_blocks(**options)
    else:
        other.compile(**options)
    view = copy.copy(pipe)
    name = next(name for name, part in pipe.components.items() if part is denoiser)
    setattr(view, name, other)
    return view


@torch.no_grad()
def _run(one: _Rehearsal) -> None:
    """Twice: the first run compiles, the second tunes what is left to the first real call."""
    if one.ready is None:
        for _ in range(2):
            one.family.denoise(one.twin.pipe, one.latents, one.timesteps, one.conditions)
        return
    cuda: Any = torch.cuda  # whose calls are not typed
    stream = cuda.Stream(one.latents.device)
    stream.wait_event(one.ready)
    with torch.cuda.stream(stream):
        for _ in range(2):
            one.family.denoise(one.twin.pipe, one.latents, one.timesteps, one.conditions)
    stream.synchronize()
