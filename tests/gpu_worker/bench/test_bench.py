"""Every benchmark runs in a small setting and prints its table; the sums they rest on are right."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from gpu_worker.bench import __main__ as command
from gpu_worker.bench import arrivals, cold, first_step, gains, paused, queues, random_models, switching
from gpu_worker.bench.busy import covered
from gpu_worker.bench.clockwork import Costs, Step
from gpu_worker.bench.efficiency import measure, report
from gpu_worker.bench.subject import Subject
from gpu_worker.bench.tables import percentile, table
from gpu_worker.config import EngineConfig
from gpu_worker.request import ModelSource
from gpu_worker.scheduling import SchedulingConfig

SIZE = (64, 64)
Printed = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def subject(source: ModelSource) -> Subject:
    scheduling = SchedulingConfig(max_rows=4, buckets=(1, 4))
    return Subject.of(source, EngineConfig(device="cpu", threads=1, encode_workers=1, scheduling=scheduling))


def test_efficiency_compares_bare_engine_and_stock(subject: Subject, capsys: Printed) -> None:
    queue = queues.mixed(subject.source, [SIZE, (64, 128)], 3, (2, 3))
    found = measure(subject, queue, rounds=1, bare_seconds=0.001)
    report("Mixed", subject, found, (">= 0.85", "", ""))
    assert set(found.best) == {SIZE, (64, 128)}
    assert all(0 < share < 2 for share in [*found.engine, *found.stock])
    out = capsys.readouterr().out
    assert "E, engine" in out
    assert "E, stock" in out


def test_useful_rows_count_guidance_and_pictures(subject: Subject) -> None:
    guided = queues.request(subject.source, "g", SIZE, steps=5, num_images=3)
    plain = queues.request(subject.source, "p", SIZE, steps=5, guidance=1.0)
    assert subject.rows(guided) == 30
    assert subject.rows(plain) == 5


def test_first_steps_on_a_simulated_clock_are_the_same_every_time() -> None:
    free = Costs(encode=0.0, decode=0.0)
    found, again = first_step.simulate(40, free), first_step.simulate(40, free)
    assert found == again
    assert len(found.in_force) == 40
    assert max(found.ticks) == 1
    assert max(found.in_force) <= 1


def test_a_payer_is_in_the_next_step_though_prompts_and_pictures_take_time() -> None:
    found = first_step.simulate(300, Costs())
    assert percentile(found.in_force, 0.99) <= 1.5
    assert percentile(found.ticks, 0.99) == 1


def test_waits_are_counted_from_the_step_in_force() -> None:
    made = [Step(0.0, 1.0, ("f",), 2), Step(1.0, 2.0, ("f",), 2), Step(4.0, 1.0, ("e", "late"), 2)]
    found = first_step.waits(made, {"e": 2.0, "late": 3.5})
    assert found.in_force == [1.0, 0.5]  # of the step of two seconds, and of the one that follows
    assert found.of_median == [2.0, 0.5]
    assert found.ticks == [1, 1]


def test_first_steps_on_the_real_engine(subject: Subject, capsys: Printed) -> None:
    arrivals.report(subject, SIZE, 3)
    assert "median step" in capsys.readouterr().out


def test_switches(subject: Subject, tmp_path: Path, capsys: Printed) -> None:
    switching.models(subject, switching.copy_of(subject.source, tmp_path / "copy"), SIZE, 1)
    switching.loras(subject, SIZE, tmp_path, 1)
    out = capsys.readouterr().out
    assert "Model switch" in out
    assert "LoRA switch" in out


def test_cold_start(subject: Subject, capsys: Printed) -> None:
    cold.report(subject, SIZE, 1, 1)
    assert "first picture" in capsys.readouterr().out


def test_gains_are_told_against_the_plain_model(subject: Subject, capsys: Printed) -> None:
    gains.report(subject, SIZE, seconds=0.001, compiled=False)
    assert "| channels_last |" in capsys.readouterr().out


def test_a_paused_request_holds_latents_and_prompts(subject: Subject, capsys: Printed) -> None:
    paused.report(subject, [SIZE])
    assert "held" in capsys.readouterr().out
    small, large = (paused.held_bytes(paused.trajectory(subject, size)) for size in (SIZE, (128, 128)))
    assert large - small == 2 * 4 * 4 * (256 - 64)  # latents and history, four channels of fp32


@pytest.mark.parametrize(
    ("options", "millions"), [(random_models.SD15_UNET, 859.5), (random_models.SDXL_UNET, 2567.5)]
)
def test_random_models_have_their_true_sizes(options: Mapping[str, object], millions: float) -> None:
    with torch.device("meta"):
        unet = random_models.unet(options)
    assert sum(one.numel() for one in unet.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_a_random_model_is_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"block_out_channels": (32, 32, 32, 32), "attention_head_dim": 4, "cross_attention_dim": 768}
    monkeypatch.setattr(random_models, "SD15_UNET", {**random_models.SD15_UNET, **small})
    monkeypatch.setattr(random_models, "VAE", {**random_models.VAE, "block_out_channels": (32,) * 4})
    monkeypatch.setattr(random_models, "CLIP_L", {**random_models.CLIP_L, "num_hidden_layers": 1})
    source = random_models.save_sd15(tmp_path, torch.device("cpu"), torch.float32)
    subject = Subject.of(source, EngineConfig(device="cpu", threads=1))
    assert subject.run_stock(queues.uniform(source, SIZE, 1, 1)).wall > 0


def test_the_command_runs_what_is_named(capsys: Printed) -> None:
    command.main(["cpu", "paused"])
    assert "tiny 128x128" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command.main(["cpu", "nothing-of-the-kind"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_gpu_the_command_says_so() -> None:
    with pytest.raises(SystemExit, match="no CUDA device"):
        command.main(["gpu"])


def test_overlapping_intervals_count_once() -> None:
    assert covered([(3.0, 4.0), (0.0, 1.0), (0.5, 2.0), (1.0, 1.5)]) == 3.0


def test_tables_line_up() -> None:
    lines = table("T", ("a", "b"), [("x", 0.12345), ("longer", 1234.5)]).splitlines()
    assert lines[0] == "**T**"
    assert lines[-2:] == ["| x      | 0.123 |", "| longer | 1234  |"]
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 3.0
