"""How many bytes models may take on the device and in host memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from gpu_worker.devices import Placement

GIB = 2**30
LEAST_RESERVE = 3 * GIB
RESERVED_SHARE = 0.15
HOST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Budgets:
    """Bytes for model weights: `device` on the device, `host` in host memory.

    Where both are one memory (CPU, MPS), `device` alone counts.
    """

    device: int
    host: int

    @classmethod
    def of(cls, placement: Placement) -> Self:
        """The defaults for this machine as it is now.

        Device: its memory (what other processes hold taken off) minus a reserve for activations, see
        `reserve`. Host: half of the free RAM. On a CPU: half of the free RAM for both together.
        """
        host = int(free_ram() * HOST_SHARE)
        if placement.device.type == "cuda":
            free, total = torch.cuda.mem_get_info(placement.device)
            ours = torch.cuda.memory_reserved(placement.device)
            return cls(device=max(0, min(total, free + ours) - reserve(total)), host=host)
        if placement.device.type == "mps":
            total = torch.mps.recommended_max_memory()
            return cls(device=total - reserve(total), host=host)
        return cls(device=host, host=host)


def reserve(total: int) -> int:
    """Bytes of `total` left to activations: 15 %, at least 3 GiB, at most half (small cards run too)."""
    return min(max(LEAST_RESERVE, int(total * RESERVED_SHARE)), total // 2)


def gib(count: int) -> str:
    """Bytes for people: "6.9 GiB"; small amounts in MiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB // 10 else f"{count / 2**20:.1f} MiB"


def free_ram(proc: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of RAM this process can still have: what the system has and what its container allows.

    Page cache counts as free. Systems without /proc are taken to have 8 GiB.
    """
    available = _meminfo(proc).get("MemAvailable", 8 * GIB)
    limit = _number(cgroup / "memory.max")
    used = _number(cgroup / "memory.current")
    if limit is None or used is None:
        return available
    return max(0, min(available, limit - used + _inactive_files(cgroup / "memory.stat")))


def _meminfo(path: Path) -> dict[str, int]:
    if not path.is_file():
        return {}
    pairs = (line.split(":") for line in path.read_text().splitlines() if ":" in line)
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def _number(path: Path) -> int | None:
    if not path.is_file():
        return None
    text = path.read_text().strip()
    return int(text) if text.isdecimal() else None  # "max": no limit


def _inactive_files(path: Path) -> int:
    if not path.is_file():
        return 0
    pairs = (line.split() for line in path.read_text().splitlines())
    return next((int(pair[1]) for pair in pairs if pair[0] == "inactive_file"), 0)
