"""Reading LoRA files."""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from gpu_worker.errors import ModelUnavailable
from gpu_worker.memory.budgets import gib
from gpu_worker.memory.sources import Source

_UNSUPPORTED = {
    "DoRA": (".dora_scale", "lora_magnitude_vector"),
    "LoHa": (".hada_w1", ".hada_w2"),
    "LoKr": (".lokr_w1", ".lokr_w2"),
    "Tucker LoCon": (".lora_mid",),
}
# The matrix whose first dimension is the rank, as PEFT, kohya and old diffusers name it.
_DOWN = (".lora_A.", ".lora_down.", ".lora.down.", "_lora.down.", ".lora_linear_layer.down.")


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """A LoRA in host memory; the tensors are shared, not to be changed.

    `state_dict` has the file's own key names and dtypes; `ranks` the distinct ranks of its matrices,
    ascending; `metadata` the file's text header; `bytes` the tensors' size.
    """

    state_dict: Mapping[str, torch.Tensor]
    ranks: tuple[int, ...]
    metadata: Mapping[str, str]
    bytes: int


def read_lora(source: Source, most_bytes: int) -> LoraWeights:
    """Read and check a LoRA file of `most_bytes` bytes at most.

    What is hashed is what is used: the file is read once. Raises `ModelUnavailable` where it is missing,
    broken, too large, no safetensors file, of another digest than `source` says, or no plain LoRA.
    """
    path = Path(source.location)
    if path.suffix != ".safetensors":
        raise _unavailable(source, "only safetensors files are read, since others may run code")
    if not path.is_file():
        raise _unavailable(source, "its file is missing")
    if (size := path.stat().st_size) > most_bytes:
        raise _unavailable(source, f"it needs {gib(size)}, there is room for {gib(most_bytes)}")
    data = path.read_bytes()
    if source.digest is not None and hashlib.sha256(data).hexdigest() != source.digest.lower():
        raise _unavailable(source, "its file is not the one expected")
    try:
        tensors = load(data)
        metadata = _metadata(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _unavailable(source, "its file is broken") from error
    return _checked(source, tensors, metadata)


def _checked(source: Source, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> LoraWeights:
    for kind, marks in _UNSUPPORTED.items():
        if any(mark in name for name in tensors for mark in marks):
            raise _unavailable(source, f"it is a {kind}, which is not supported; a plain LoRA is")
    ranks = {tensor.shape[0] for name, tensor in tensors.items() if tensor.dim() and _is_down(name)}
    if not ranks:
        raise _unavailable(source, "its file holds no LoRA")
    return LoraWeights(
        state_dict=tensors,
        ranks=tuple(sorted(ranks)),
        metadata=metadata,
        bytes=sum(tensor.nbytes for tensor in tensors.values()),
    )


def _is_down(name: str) -> bool:
    return any(mark in name for mark in _DOWN)


def _metadata(data: bytes) -> dict[str, str]:
    (length,) = struct.unpack_from("<Q", data)
    return dict(json.loads(data[8 : 8 + length]).get("__metadata__", {}))


def _unavailable(source: Source, reason: str) -> ModelUnavailable:
    return ModelUnavailable(f"LoRA {source.slug!r} cannot be loaded: {reason}")
