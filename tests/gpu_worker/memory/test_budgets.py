"""Budgets: what the machine has, less what steps need."""

from pathlib import Path

import pytest
import torch

from gpu_worker.devices import Placement
from gpu_worker.memory import Budgets
from gpu_worker.memory.budgets import GIB, free_ram, gib, reserve


@pytest.mark.parametrize(
    ("total", "kept"),
    [(140 * GIB, 21 * GIB), (24 * GIB, int(3.6 * GIB)), (12 * GIB, 3 * GIB), (4 * GIB, 2 * GIB)],
)
def test_the_reserve_for_activations(total: int, kept: int) -> None:
    assert reserve(total) == pytest.approx(kept, rel=1e-6)


def test_a_cuda_device_gives_what_others_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (20 * GIB, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 1 * GIB)
    budgets = Budgets.of(Placement(torch.device("cuda"), torch.float16))
    assert budgets.device == 21 * GIB - reserve(24 * GIB)


def test_on_a_cpu_both_are_one() -> None:
    budgets = Budgets.of(Placement(torch.device("cpu"), torch.float32))
    assert budgets.device == budgets.host > 0


def test_free_ram_is_what_the_container_allows(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    assert free_ram(meminfo, tmp_path) == 8 * GIB
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("123\n")
    assert free_ram(meminfo, tmp_path) == 8 * GIB
    (tmp_path / "memory.max").write_text(f"{4 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{3 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {GIB}\n")
    assert free_ram(meminfo, tmp_path) == 2 * GIB
    assert free_ram(tmp_path / "none", tmp_path / "none") == 8 * GIB


def test_bytes_for_people() -> None:
    assert gib(7 * GIB) == "7.0 GiB"
    assert gib(5 * 2**20) == "5.0 MiB"
