"""Compiled denoisers beside the running steps, without the compiler itself: it changes nothing here."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from gpu_worker.families import family_of
from gpu_worker.stepping.twins import Twins, twin_of

hub: Any = diffusers  # whose calls are not typed


@pytest.fixture
def pipe(sd_folder: Path) -> Any:
    return hub.StableDiffusionPipeline.from_pretrained(sd_folder)


def inputs(rows: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(rows)
    return torch.randn(rows, 4, 8, 8), torch.full((rows,), 500.0), {"text": torch.randn(rows, 16, 32)}


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_twin_shares_the_weights(pipe: Any) -> None:
    family = family_of(pipe)
    assert family is not None
    twin = twin_of(pipe, family, {"backend": "eager"})
    assert twin.unet is not pipe.unet
    assert twin.vae is pipe.vae
    ours, theirs = dict(pipe.unet.named_parameters()), dict(twin.unet.named_parameters())
    assert all(theirs[name] is ours[name] for name in ours)


def test_steps_use_it_once_it_is_warm(pipe: Any) -> None:
    family = family_of(pipe)
    assert family is not None
    held: list[str] = []
    leave = threading.Event()

    def hold() -> Callable[[], None]:
        held.append("hold")
        assert leave.wait(30)
        return lambda: held.append("release")

    twins = Twins(backend="eager")
    twins.add(pipe, family, hold)
    assert twins.pipe_for(pipe, family, *inputs(2)) is pipe
    leave.set()
    wait_for(lambda: held == ["hold", "release"])
    chosen = twins.pipe_for(pipe, family, *inputs(2))
    assert chosen is not pipe
    with torch.no_grad():
        expected = family.denoise(pipe, *inputs(2))
        assert torch.allclose(family.denoise(chosen, *inputs(2)), expected, atol=1e-5)
    assert twins.pipe_for(pipe, family, *inputs(4)) is pipe  # another size is warmed up by itself
    wait_for(lambda: held[2:] == ["hold", "release"])
    twins.drop(pipe)
    assert twins.pipe_for(pipe, family, *inputs(2)) is pipe
    twins.close()


def test_what_does_not_compile_runs_as_it_is(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("no compiler here")

    family = family_of(pipe)
    assert family is not None
    released = threading.Event()
    twins = Twins(backend=broken)
    twins.add(pipe, family, lambda: released.set)
    twins.pipe_for(pipe, family, *inputs(1))
    assert released.wait(30)
    assert twins.pipe_for(pipe, family, *inputs(1)) is pipe
    assert "runs as it is" in caplog.text
    twins.close()
