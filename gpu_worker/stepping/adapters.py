"""LoRAs in a pipeline's layers, each row of a batch with its own.

PEFT keeps the matrices; what it would add to every row (or, with `adapter_names`, one LoRA per row) is added
here by a hook on each layer, so that a row may have several with weights of its own:

    y = W x + sum over its LoRAs of weight · alpha / rank · B A x        (arXiv 2106.09685, formula 3)
"""

import logging
import warnings
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from gpu_worker.errors import BadRequest
from gpu_worker.memory import LoraWeights
from gpu_worker.request import LoraSource
from gpu_worker.stepping.trajectory import AdapterUse

# Unused ones kept in the layers, ready for the next request. Each costs its own size on the device.
IDLE_KEPT = 8

# Said of every LoRA that leaves the text encoder as it is; one that fits nothing at all is refused below.
for _logger in ("diffusers.loaders.lora_base", "diffusers.loaders.peft"):
    logging.getLogger(_logger).addFilter(lambda record: "No LoRA keys associated" not in record.getMessage())

# Per name: the rows that have it (None: all) and their weights, (k,).
_Applied = dict[str, tuple[torch.Tensor | None, torch.Tensor]]


class Adapters:
    """The LoRAs in one pipeline. Used by the GPU thread only: no step may run while layers are changed."""

    def __init__(self, pipe: Any, device: torch.device) -> None:
        self._pipe = pipe
        self._device = device
        self._names: OrderedDict[LoraSource, str] = OrderedDict()  # the least recently used first
        self._hooked: list[Any] = []
        self._count = 0
        self._applied: _Applied = {}

    @property
    def is_empty(self) -> bool:
        """Whether the layers are as they were loaded."""
        return self._count == 0

    def has(self, source: LoraSource) -> bool:
        """Whether it is in the model; to be asked for each that is needed, so that it counts as used."""
        if source in self._names:
            self._names.move_to_end(source)
            return True
        return False

    def put_in(self, source: LoraSource, weights: LoraWeights) -> None:
        """Build its layers, which takes some tenths of a second for a large model. Hold `BUILDING`.

        Raises `BadRequest` when the LoRA does not fit the model or is of a kind that rows cannot mix.
        """
        self._count += 1
        name = f"lora{self._count}"
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Already found a `peft_config`", module="peft")
                self._pipe.load_lora_weights(dict(weights.state_dict), adapter_name=name)
            self._check(name)
        except (ValueError, RuntimeError, KeyError, AttributeError) as error:
            self._delete(name)
            raise BadRequest(f"LoRA {source.slug!r} does not fit this model: {_reason(error)}") from error
        self._names[source] = name
        self._hook()

    def trim(self, used: Collection[LoraSource]) -> None:
        """Take out the least recently used of those that no request has, down to a few."""
        idle = [source for source in self._names if source not in used]
        for source in idle[: max(0, len(idle) - IDLE_KEPT)]:
            self._delete(self._names.pop(source))

    def clear(self) -> None:
        """Leave the layers as they were loaded."""
        for handle in self._hooked:
            handle.remove()
        self._hooked.clear()
        if self._count:
            self._pipe.unload_lora_weights()
        self._names.clear()
        self._count = 0

    @contextmanager
    def applied(self, rows: Sequence[tuple[AdapterUse, ...]]) -> Iterator[None]:
        """Within it, row i of every layer's input has the LoRAs `rows[i]`; one row stands for all."""
        self._applied = self._place(rows) if self._names else {}
        try:
            yield
        finally:
            self._applied = {}

    def _place(self, rows: Sequence[tuple[AdapterUse, ...]]) -> _Applied:
        placed: _Applied = {}
        for source, name in self._names.items():
            found = [(row, weight) for row, uses in enumerate(rows) for one, weight in uses if one == source]
            if found:
                indices, weights = zip(*found, strict=True)
                every = len(rows) == 1 or list(indices) == list(range(len(rows)))
                index = None if every else torch.tensor(indices, device=self._device)
                placed[name] = index, torch.tensor(weights, device=self._device)
        return placed

    def _layers(self) -> Iterator[LoraLayer]:
        for part in self._pipe.components.values():
            if isinstance(part, torch.nn.Module):
                yield from (module for module in part.modules() if isinstance(module, LoraLayer))

    def _check(self, name: str) -> None:
        """Raises `ValueError`: nothing taken in, or more to it than a product of two matrices."""
        layers = [layer for layer in self._layers() if name in layer.scaling]
        if not layers:
            raise ValueError("none of its layers is one of the model's")
        if any(name in layer.lora_variant or name in layer.lora_embedding_A for layer in layers):
            raise ValueError("only plain LoRAs can share steps, no DoRA or embeddings")

    def _hook(self) -> None:
        """On every layer, anew: loading one more LoRA turns the layers' own way of applying it on again."""
        for handle in self._hooked:
            handle.remove()
        self._hooked.clear()
        for layer in self._layers():
            layer.enable_adapters(False)
            for matrices in (layer.lora_A, layer.lora_B):
                matrices.to(self._device)
            module: Any = layer
            self._hooked.append(module.register_forward_hook(self._add))

    def _add(self, layer: Any, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        for name, (index, weights) in self._applied.items():
            if name not in layer.lora_A:
                continue
            down, up = layer.lora_A[name], layer.lora_B[name]
            x = inputs[0] if index is None else inputs[0][index]
            scale = (weights * layer.scaling[name]).view(-1, *[1] * (out.dim() - 1))
            added = (up(down(x.to(down.weight.dtype))) * scale).to(out.dtype)
            out = out + added if index is None else out.index_add(0, index, added)
        return out

    def _delete(self, name: str) -> None:
        if any(name in layer.scaling for layer in self._layers()):
            self._pipe.delete_adapters(name)


def _reason(error: Exception) -> str:
    """The first line: PyTorch lists every layer of another shape."""
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
