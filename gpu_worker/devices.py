"""The machine's devices: which there are, and which one an engine uses."""

import os
import time
from dataclasses import dataclass
from typing import Any

import torch

from gpu_worker.config import Dtype, EngineConfig

# A point in the device's work: a CUDA event, or an instant of `time.perf_counter` where nothing is queued.
Mark = torch.cuda.Event | float

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device; `kind` is cuda, mps or cpu, memory in bytes (None where the system does not tell)."""

    name: str
    kind: str
    memory_total: int | None
    memory_free: int | None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where tensors live and how wide their numbers are."""

    device: torch.device
    dtype: torch.dtype

    def mark(self) -> Mark:
        """This point in the device's work: CUDA reaches it later, other devices have reached it."""
        if self.device.type == "cuda":
            cuda: Any = torch.cuda  # whose calls are not typed
            event: torch.cuda.Event = cuda.Event(enable_timing=True)
            event.record(cuda.current_stream(self.device))
            return event
        if self.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    def seconds(self, start: Mark, end: Mark) -> float:
        """Device time between two marks; waits until the second is reached."""
        if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
            end.synchronize()
            return float(start.elapsed_time(end)) / 1000
        assert isinstance(start, float)
        assert isinstance(end, float)
        return end - start

    def free_caches(self) -> None:
        """Hand memory that torch keeps for reuse back to the device."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()

    def reset_peak_memory(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_memory(self) -> int | None:
        """Most bytes allocated since `reset_peak_memory`; None where that is not counted."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None


def choose(config: EngineConfig) -> Placement:
    """The placement that `config` asks for. Raises `ValueError` where this machine has no such device."""
    device = _choose_device(config.device)
    return Placement(device, _choose_dtype(config.dtype, device))


def describe() -> list[DeviceInfo]:
    """Every device this process can compute on, the fastest first."""
    return [*_cuda_devices(), *_mps_devices(), _cpu()]


def device_name(device: torch.device) -> str:
    """A name for people, such as "NVIDIA H200" or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator gave up. CPU and MPS raise a plain RuntimeError, told apart by its text only."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "not enough memory" in text or "out of memory" in text or "allocate memory" in text
    )


def _choose_device(name: str) -> torch.device:
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not cuda or (device.index or 0) >= torch.cuda.device_count()):
        raise ValueError(f"no CUDA device {name!r} on this machine")
    if device.type == "mps" and not mps:
        raise ValueError("no MPS device on this machine")
    return device


def _choose_dtype(name: Dtype, device: torch.device) -> torch.dtype:
    if name != "auto":
        return _DTYPES[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _cuda_devices() -> list[DeviceInfo]:
    if not torch.cuda.is_available():
        return []
    devices = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        devices.append(DeviceInfo(torch.cuda.get_device_name(index), "cuda", total, free))
    return devices


def _mps_devices() -> list[DeviceInfo]:
    if not torch.backends.mps.is_available():
        return []
    total = torch.mps.recommended_max_memory()
    return [DeviceInfo("Apple GPU", "mps", total, total - torch.mps.driver_allocated_memory())]


def _cpu() -> DeviceInfo:
    return DeviceInfo(
        f"{os.cpu_count()} CPU cores", "cpu", _memory("SC_PHYS_PAGES"), _memory("SC_AVPHYS_PAGES")
    )


def _memory(pages: str) -> int | None:
    if pages not in os.sysconf_names:
        return None
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
