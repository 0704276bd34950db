"""Moving bytes between host and device.

On CUDA the copy runs on a stream of its own, from pinned memory, started by a background thread: the GPU
thread goes on with its steps, and the copy engine works beside the multiprocessors. The device memory itself
is allocated for the default stream, on which the steps run: what a model leaves behind can be used by
activations at once, which memory of another stream could not.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from gpu_worker.devices import Placement


class Transfer(Protocol):
    """One device's side of it. Any thread."""

    def host_buffer(self, size: int) -> torch.Tensor:
        """`size` bytes (uint8) of host memory that `send` reads from fast."""
        ...

    def send(self, buffers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Copies on the device, complete on return. Raises what the allocator raises."""
        ...

    def fetch(self, buffers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Copies in host memory, complete on return."""
        ...

    def mark(self) -> Callable[[], None]:
        """Called where the device was just given work: a function that waits until that is done."""
        ...


class CudaTransfer:
    """By a side stream of one CUDA device."""

    def __init__(self, placement: Placement) -> None:
        self._device = placement.device
        self._side = torch.cuda.Stream(placement.device)  # type: ignore[no-untyped-call]

    def host_buffer(self, size: int) -> torch.Tensor:
        with torch.cuda.device(self._device):  # or it would open the first device
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def send(self, buffers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        default = torch.cuda.default_stream(self._device)
        with torch.cuda.stream(default):
            copies = [torch.empty_like(buffer, device=self._device) for buffer in buffers]
        self._copy(buffers, copies)
        return copies

    def fetch(self, buffers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        copies = [self.host_buffer(buffer.nbytes) for buffer in buffers]
        self._copy(buffers, copies)
        return copies

    def _copy(self, sources: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> None:
        # A block that steps still in the queue wrote to may have been allocated anew: wait for those.
        self._side.wait_stream(torch.cuda.default_stream(self._device))
        with torch.cuda.stream(self._side):
            for source, target in zip(sources, targets, strict=True):
                target.copy_(source, non_blocking=True)
        self._side.synchronize()  # without the interpreter's lock

    def mark(self) -> Callable[[], None]:
        event = torch.cuda.current_stream(self._device).record_event()

        def wait() -> None:
            event.synchronize()

        return wait


class PlainTransfer:
    """Blocking copies, without streams; on a CPU it shows how two tiers behave."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def host_buffer(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8)

    def send(self, buffers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [buffer.to(self._device, copy=True) for buffer in buffers]

    def fetch(self, buffers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [buffer.to("cpu", copy=True) for buffer in buffers]

    def mark(self) -> Callable[[], None]:
        return lambda: None


def transfer_for(placement: Placement) -> Transfer | None:
    """The way to the device's own memory; None where it has none (CPU, MPS): there models are not copied."""
    return CudaTransfer(placement) if placement.device.type == "cuda" else None
