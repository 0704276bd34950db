"""LoRAs in the engine: several per request, different ones in one step."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from gpu_worker import samplers
from gpu_worker.config import EngineConfig
from gpu_worker.engine import Engine
from gpu_worker.errors import BadRequest, ModelUnavailable
from gpu_worker.pipelines import load
from gpu_worker.request import GenerationRequest, LoraSource, ModelSource
from tests.gpu_worker.harness import WAIT, MakeRequest, failure, occupy, pixels

hub: Any = diffusers  # whose calls are not typed
MakeLora = Callable[..., LoraSource]


@pytest.fixture(scope="module")
def make_lora(source: ModelSource, tmp_path_factory: pytest.TempPathFactory) -> MakeLora:
    """A random LoRA on attention, convolutions and the text encoder."""

    def make(seed: int, *, text: bool = False, **options: Any) -> LoraSource:
        torch.manual_seed(seed)
        pipe = load(source, torch.float32)
        config = LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v", "conv1"], **options)
        parts = {"unet_lora_layers": _train(pipe.unet, config)}
        if text:
            config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"], **options)
            parts["text_encoder_lora_layers"] = _train(pipe.text_encoder, config)
        folder = tmp_path_factory.mktemp("lora")
        hub.StableDiffusionPipeline.save_lora_weights(folder, **parts)
        return LoraSource(f"style-{seed}", str(next(folder.glob("*.safetensors"))))

    return make


def _train(part: Any, config: LoraConfig) -> dict[str, torch.Tensor]:
    part.add_adapter(config)
    for name, weight in part.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    weights: dict[str, torch.Tensor] = get_peft_model_state_dict(part)
    return weights


def stock(source: ModelSource, request: GenerationRequest) -> np.ndarray[Any, Any]:
    pipe = load(source, torch.float32)
    pipe.scheduler = samplers.build(request.scheduler, pipe.scheduler)
    for lora in request.loras:
        pipe.load_lora_weights(lora.location, adapter_name=lora.slug)
    if request.loras:
        pipe.set_adapters([lora.slug for lora in request.loras], [lora.weight for lora in request.loras])
    image = pipe(
        request.prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        generator=torch.Generator().manual_seed(request.seed),
    ).images[0]
    return np.asarray(image, dtype=int)


def test_different_loras_share_a_step(
    engine: Engine, source: ModelSource, make_request: MakeRequest, make_lora: MakeLora
) -> None:
    first, second, text = make_lora(1), make_lora(2), make_lora(3, text=True)
    mixes = [(), (first,), (replace(first, weight=0.5), replace(second, weight=-1.2)), (text,)]
    requests = [
        make_request(id=str(n), steps=4, seed=n, scheduler="ddim", guidance=2.0, loras=loras)
        for n, loras in enumerate(mixes)
    ]
    alone = [stock(source, request) for request in requests]
    gate, running = occupy(engine, make_request(id="running", steps=12))
    futures = [engine.submit(request) for request in requests]
    gate.open.set()
    for future, picture in zip(futures, alone, strict=True):
        assert np.abs(pixels(future)[0] - picture).max() <= 1
    running.result(WAIT)
    assert engine.stats().requests_per_step > 1.2
    plain = replace(requests[0], id="again", seed=1)
    assert np.abs(pixels(engine.submit(plain))[0] - alone[1]).max() > 1  # a LoRA that is gone leaves no trace
    assert np.abs(pixels(engine.submit(plain))[0] - stock(source, plain)).max() <= 1


def test_a_model_that_was_away_gets_its_loras_again(
    config: EngineConfig, source: ModelSource, make_request: MakeRequest, make_lora: MakeLora
) -> None:
    size = sum(path.stat().st_size for path in Path(source.location).rglob("*.safetensors"))
    other = replace(source, slug="other", family="sd2")
    request = make_request(scheduler="ddim", loras=(make_lora(1),))
    with Engine(replace(config, model_memory_gib=1.5 * size / 2**30)) as engine:
        before = pixels(engine.submit(request))[0]
        engine.submit(make_request(id="other", model=other)).result(WAIT)
        assert engine.stats().loaded_models == ("other",)
        assert np.array_equal(pixels(engine.submit(request))[0], before)


def test_putting_in_several_is_no_news(
    engine: Engine,
    make_request: MakeRequest,
    make_lora: MakeLora,
    recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    loras = make_lora(1), make_lora(2)
    recwarn.clear()
    caplog.clear()
    assert engine.submit(make_request(loras=loras)).result(WAIT).pictures
    assert not [str(one.message) for one in recwarn if "peft" in one.filename]
    assert not [record.getMessage() for record in caplog.records if "loaders" in record.name]


def test_loras_that_cannot_be_used(
    engine: Engine, make_request: MakeRequest, make_lora: MakeLora, tmp_path: Path
) -> None:
    dora = make_lora(1, use_dora=True)
    missing = LoraSource("gone", str(tmp_path / "gone.safetensors"))
    error = failure(engine.submit(make_request(id="1", loras=(missing,))))
    assert isinstance(error, ModelUnavailable)
    assert "'gone'" in str(error)
    error = failure(engine.submit(make_request(id="2", loras=(dora,))))
    assert isinstance(error, ModelUnavailable)
    assert "DoRA" in str(error)
    weights = {"unet.mid_block.attentions.0.to_q.lora_A.weight": torch.zeros(2, 7)}
    weights["unet.mid_block.attentions.0.to_q.lora_B.weight"] = torch.zeros(7, 2)
    path = tmp_path / "other-model.safetensors"
    save_file(weights, path)
    error = failure(engine.submit(make_request(id="3", loras=(LoraSource("wrong", str(path)),))))
    assert isinstance(error, BadRequest)
    assert "'wrong' does not fit this model" in str(error)
    assert engine.submit(make_request(id="4")).result(WAIT).pictures
