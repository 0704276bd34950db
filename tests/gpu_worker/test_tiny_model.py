"""The packaged model: small enough, loaded by the stock pipeline, and it draws what it is asked."""

import numpy as np
import pytest
import torch

from gpu_worker.tiny.evaluate import answer, load, paint, single_questions
from gpu_worker.tiny.export import PACKAGED, folder_megabytes
from gpu_worker.tiny.parts import Pipeline


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return load(PACKAGED)


def test_the_folder_is_small_and_complete() -> None:
    assert folder_megabytes(PACKAGED) <= 12.0
    for part in ("unet", "vae", "text_encoder"):
        assert list((PACKAGED / part).glob("*.safetensors")), part
    assert not list(PACKAGED.rglob("*.bin"))


def test_it_draws_held_out_prompts(pipe: Pipeline) -> None:
    questions = single_questions(8)
    pictures = paint(pipe, [q.prompt for q in questions])
    answers = [answer(q, p) for q, p in zip(questions, pictures, strict=True)]
    assert all(a.background for a in answers)
    assert sum(a.colour for a in answers) >= 7


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_other_samplers_draw_as_well(sampler: str) -> None:
    questions = single_questions(4)
    pictures = paint(load(PACKAGED, sampler), [q.prompt for q in questions], steps=16)
    assert all(answer(q, p).background for q, p in zip(questions, pictures, strict=True))


def test_the_same_seed_gives_the_same_picture(pipe: Pipeline) -> None:
    first, again = (paint(pipe, ["a red star on a white background"], steps=4)[0] for _ in range(2))
    assert np.array_equal(first, again)


def test_words_it_does_not_know_do_no_harm(pipe: Pipeline) -> None:
    picture = paint(pipe, ["żółw 😀 " * 60], steps=2)[0]
    assert picture.shape == (128, 128, 3)


def test_the_denoiser_takes_a_timestep_for_each_row(pipe: Pipeline) -> None:
    latents, text = torch.randn(3, 4, 16, 16), torch.randn(3, 48, 128)
    with torch.no_grad():
        together = pipe.unet(latents, torch.tensor([999, 500, 20]), text).sample
        alone = pipe.unet(latents[1:2], torch.tensor([500]), text[1:2]).sample
    assert torch.allclose(together[1:2], alone, atol=1e-4)
