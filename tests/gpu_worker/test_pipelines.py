"""Loading, and how a request becomes arguments."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from huggingface_hub import constants

from gpu_worker.builtin import BUILTIN_TINY
from gpu_worker.config import EngineConfig
from gpu_worker.engine import Engine
from gpu_worker.errors import BadRequest, ModelUnavailable
from gpu_worker.pipelines import SINGLE_FILE_PIPELINES, LoadedModel, load
from gpu_worker.request import GenerationRequest, ModelSource
from gpu_worker.stock import call_arguments
from tests.gpu_worker.harness import WAIT
from tests.gpu_worker.single_file import save_single_file

MakeRequest = Callable[..., GenerationRequest]


def test_a_folder_loads_in_the_dtype_asked_for(source: ModelSource) -> None:
    pipe = load(source, torch.bfloat16)
    assert pipe.unet.dtype == pipe.vae.dtype == pipe.text_encoder.dtype == torch.bfloat16
    assert pipe.safety_checker is None


@pytest.mark.parametrize(
    ("location", "family", "message"),
    [
        ("/nowhere/at/all", "sd15", "folder is missing"),
        ("s3://bucket/model", "sd15", "folder is missing"),
        ("/nowhere/model.safetensors", "sd15", "file is missing"),
    ],
)
def test_a_missing_model(location: str, family: str, message: str) -> None:
    with pytest.raises(ModelUnavailable, match=f"'gone' cannot be loaded: its {message}"):
        load(ModelSource("gone", location, family), torch.float32)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="missing or broken"):
        load(ModelSource("empty", str(tmp_path), "sd15"), torch.float32)


@pytest.mark.parametrize(
    "damage", ["cut weights", "no weights", "no index entry", "wrong shape", "only a pickle"]
)
def test_a_broken_folder(sd_folder: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(sd_folder, folder)
    weights, config = folder / "unet" / "diffusion_pytorch_model.safetensors", folder / "unet" / "config.json"
    if damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "no weights":
        weights.unlink()
    elif damage == "no index entry":
        (folder / "model_index.json").write_text("{}")
    elif damage == "wrong shape":
        config.write_text(json.dumps({**json.loads(config.read_text()), "in_channels": 8}))
    else:
        torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
        weights.unlink()
    with pytest.raises(ModelUnavailable, match="missing or broken"):
        load(ModelSource("broken", str(folder), "sd15"), torch.float32)


def assert_same_weights(one: Any, other: Any) -> None:
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = (getattr(pipe, part).state_dict() for pipe in (one, other))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("_offline")
def test_a_single_file_loads_as_its_folder_does(source: ModelSource, tmp_path: Path) -> None:
    folder = load(source, torch.float32)
    path = tmp_path / "model.safetensors"
    save_single_file(folder, path)
    shutil.copytree(source.location, path.with_suffix(""), ignore=shutil.ignore_patterns("*.safetensors"))
    pipe = load(ModelSource("file", str(path), "sd15"), torch.float32)
    assert_same_weights(pipe, folder)
    assert type(pipe) is type(folder)
    assert pipe.scheduler.config == folder.scheduler.config
    assert pipe.safety_checker is None


@pytest.mark.usefixtures("_offline")
def test_a_hub_id_loads_from_the_local_cache(
    config: EngineConfig, source: ModelSource, make_request: MakeRequest, tmp_path: Path
) -> None:
    commit = 40 * "a"
    repository = tmp_path / "hub" / "models--someone--random-sd"
    shutil.copytree(source.location, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    hub = ModelSource("hub", "someone/random-sd", "sd15")
    assert_same_weights(load(hub, torch.float32), load(source, torch.float32))
    with Engine(config) as engine:
        assert engine.submit(make_request(model=hub)).result(WAIT).pictures
    with pytest.raises(ModelUnavailable, match="missing or broken"):
        load(ModelSource("absent", "someone/absent", "sd15"), torch.float32)


def test_a_single_file_of_unknown_family(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"x")
    with pytest.raises(ModelUnavailable, match="family among sd15"):
        load(ModelSource("m", str(path), "unheard-of"), torch.float32)
    with pytest.raises(ModelUnavailable, match="missing or broken"):
        load(ModelSource("m", str(path), "sd15"), torch.float32)


def test_single_file_pipelines_exist() -> None:
    assert all(
        hasattr(getattr(diffusers, name), "from_single_file") for name in SINGLE_FILE_PIPELINES.values()
    )


class OnePictureOnly:
    """A pipeline that takes few arguments and packs its latents."""

    scheduler = None
    vae_scale_factor = 8

    def _pack_latents(self) -> None: ...

    def __call__(self, prompt: str, width: int, height: int, generator: Any) -> None: ...


def test_only_arguments_that_the_pipeline_has(source: ModelSource, make_request: MakeRequest) -> None:
    model = LoadedModel.of(source, OnePictureOnly())
    arguments = call_arguments(model, model.pipe, make_request(), on_step_end=None)
    assert sorted(arguments) == ["generator", "height", "prompt", "width"]
    with pytest.raises(BadRequest, match="multiples of 16"):
        call_arguments(model, model.pipe, make_request(width=72), on_step_end=None)


def test_seeds_wrap_at_the_largest(make_request: MakeRequest) -> None:
    request = make_request(seed=2**63 - 1)
    assert [request.seed_of(i) for i in range(3)] == [2**63 - 1, 0, 1]


def test_noise_is_the_same_in_every_dtype() -> None:
    """Why one CPU generator is enough for the same picture on CPU in fp32 and on CUDA in bf16."""
    wide = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for dtype in (torch.float16, torch.bfloat16):
        narrow = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=dtype)
        assert torch.allclose(wide, narrow.float(), atol=0.02)


def test_the_builtin_model_makes_a_picture(config: EngineConfig, make_request: MakeRequest) -> None:
    request = make_request(model=BUILTIN_TINY, width=128, height=128, steps=2, scheduler="dpmpp_2m")
    with Engine(config) as engine:
        assert engine.submit(request).result(30).pictures[0].width == 128
