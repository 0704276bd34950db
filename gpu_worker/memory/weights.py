"""A pipeline's weights as a few large buffers that move as a whole.

Some thousand tensors become some dozen buffers: a switch of models is that many copies at the full speed of
the bus, blocks on the device are large and alike, and leaving the device is handing back those blocks. The
modules' own tensors stay the same objects and are pointed at the buffers in force.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gpu_worker.memory.transfers import Transfer

# Pinned blocks are rounded up to powers of two; buffers of exactly such a size waste nothing.
CHUNK_BYTES = 256 * 2**20
_ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class _Slot:
    tensor: torch.Tensor
    chunk: int
    offset: int
    stride: tuple[int, ...]

    def view(self, chunk: torch.Tensor) -> torch.Tensor:
        part = chunk[self.offset : self.offset + self.tensor.nbytes].view(self.tensor.dtype)
        return part.as_strided(self.tensor.shape, self.stride)


def modules_of(pipe: Any) -> list[torch.nn.Module]:
    """The pipeline's models: denoiser, autoencoder, text encoders."""
    return [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]


def tensors_of(pipe: Any) -> Iterator[torch.Tensor]:
    """Parameters and buffers of all its models, each once."""
    seen: set[int] = set()
    for module in modules_of(pipe):
        for tensor in (*module.parameters(), *module.buffers()):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor


def bytes_of(pipe: Any) -> int:
    """Bytes of the pipeline's parameters and buffers."""
    return sum(tensor.nbytes for tensor in tensors_of(pipe))


class Weights:
    """The weights of one pipeline, on the host, on the device or on both. One thread at a time.

    Quantised tensors and others that are more than plain numbers in memory are moved by `Module.to`, beside
    the buffers. So is what was attached later and left there, such as an adapter.
    """

    def __init__(self, pipe: Any, transfer: Transfer, device: torch.device, chunk: int = CHUNK_BYTES) -> None:
        """Packs the weights, which are in host memory; needs one more `chunk` (bytes) meanwhile."""
        self.bytes = bytes_of(pipe)
        self._pipe = pipe
        self._transfer = transfer
        self._device = device
        self._slots, sizes = _layout([t for t in tensors_of(pipe) if _is_plain(t)], chunk)
        self._host: list[torch.Tensor] | None = []
        self._remote: list[torch.Tensor] | None = None
        self._pack(sizes)

    @property
    def on_host(self) -> bool:
        return self._host is not None

    @property
    def on_device(self) -> bool:
        return self._remote is not None

    def to_device(self) -> None:
        """Copy to the device; the host copy stays. Raises what the allocator raises, then nothing changed."""
        assert self._host is not None
        remote = self._transfer.send(self._host)
        self._point(remote)
        self._remote = remote
        try:
            self._move_the_rest(self._device)
        except BaseException:
            self.to_host()
            raise

    def to_host(self) -> None:
        """Leave the device; copies back only if there is no host copy. The device must be done with it."""
        if self._remote is None:
            return
        if self._host is None:
            self._host = self._transfer.fetch(self._remote)
        self._point(self._host)
        self._remote = None
        self._move_the_rest(torch.device("cpu"))

    def drop_host(self) -> None:
        """Keep the device's copy only."""
        assert self._remote is not None
        self._host = None

    def clear(self) -> None:
        """Free everything at once, whoever still holds the pipeline; it cannot be used any more."""
        self._host = self._remote = None
        for tensor in tensors_of(self._pipe):
            if _is_plain(tensor):
                tensor.data = torch.empty(0, dtype=tensor.dtype)

    def _pack(self, sizes: Sequence[int]) -> None:
        """One buffer after the other, each old tensor freed as its numbers have moved."""
        assert self._host is not None
        slots = iter(self._slots)
        slot = next(slots, None)
        for index, size in enumerate(sizes):
            chunk = self._transfer.host_buffer(size)
            while slot is not None and slot.chunk == index:
                view = slot.view(chunk)
                slot.tensor.data = view.copy_(slot.tensor.data)
                slot = next(slots, None)
            self._host.append(chunk)

    def _point(self, chunks: Sequence[torch.Tensor]) -> None:
        for slot in self._slots:
            slot.tensor.data = slot.view(chunks[slot.chunk])

    def _move_the_rest(self, device: torch.device) -> None:
        for module in modules_of(self._pipe):
            module.to(device)  # skips what is there already


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
        and tensor.layout == torch.strided
        and tensor.device.type != "meta"
        and tensor.numel() > 0
    )


def _layout(tensors: Sequence[torch.Tensor], chunk: int) -> tuple[list[_Slot], list[int]]:
    """Where each tensor goes, and the buffers' sizes. A tensor larger than `chunk` has its own buffer."""
    slots: list[_Slot] = []
    sizes: list[int] = []
    for tensor in tensors:
        if not sizes or sizes[-1] + tensor.nbytes > chunk:
            sizes.append(0)
        slots.append(_Slot(tensor, len(sizes) - 1, sizes[-1], _stride(tensor)))
        sizes[-1] += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
    return slots, sizes


def _stride(tensor: torch.Tensor) -> tuple[int, ...]:
    """Its own where it fills its memory without gaps (channels last stays so), else that of a plain copy."""
    dense = tensor.is_contiguous() or (
        tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    )
    return tensor.stride() if dense else tensor.contiguous().stride()
