"""PNG text and thumbnails, read back by Pillow."""

import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from PIL import Image

from gpu_worker.pictures import a1111_text, encode_picture
from gpu_worker.request import GenerationRequest, ModelSource

MakeRequest = Callable[..., GenerationRequest]


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_pixels_survive(make_request: MakeRequest) -> None:
    original = Image.effect_mandelbrot((40, 24), (-2, -1, 1, 1), 20).convert("RGB")
    picture = encode_picture(original, make_request(), 7)
    assert opened(picture.png).tobytes() == original.tobytes()
    assert (picture.width, picture.height, picture.seed) == (40, 24, 7)


def test_text_chunks(make_request: MakeRequest) -> None:
    request = make_request(negative_prompt="blur", scheduler="euler_a", guidance=7.5, steps=20)
    text = opened(encode_picture(Image.new("RGB", (64, 32)), request, 9).png).info
    assert text["parameters"] == (
        "a red ring\nNegative prompt: blur\n"
        "Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 9, Size: 64x32, Model: random-sd"
    )
    assert json.loads(text["pingvas"]) == {
        "version": 1,
        "prompt": "a red ring",
        "negative_prompt": "blur",
        "model": "random-sd",
        "model_digest": None,
        "steps": 20,
        "guidance": 7.5,
        "seed": 9,
        "scheduler": "euler_a",
        "width": 64,
        "height": 32,
    }


@pytest.mark.parametrize("prompt", ["ein Käfer", "企鹅 🐧", "two\nlines"])
def test_any_language(make_request: MakeRequest, prompt: str) -> None:
    png = encode_picture(Image.new("RGB", (8, 8)), make_request(prompt=prompt), 1).png
    text = opened(png).info
    assert text["parameters"].startswith(prompt + "\n")
    assert json.loads(text["pingvas"])["prompt"] == prompt
    assert (b"iTXtparameters" in png) == (not prompt.isascii())


def test_a_lone_surrogate_does_not_lose_the_picture(make_request: MakeRequest) -> None:
    text = opened(encode_picture(Image.new("RGB", (8, 8)), make_request(prompt="a\ud83d"), 1).png).info
    assert text["parameters"].startswith("a?\n")


def test_model_hash(make_request: MakeRequest) -> None:
    source = ModelSource("m", "/m", "sd15", digest="sha256:0123456789abcdef")
    assert "Model hash: 0123456789, Model: m" in a1111_text(replace(make_request(), model=source), 1, (8, 8))


@pytest.mark.parametrize(
    ("size", "small", "large"),
    [
        ((1024, 768), (256, 192), (512, 384)),
        ((300, 600), (128, 256), (256, 512)),
        ((512, 512), (256, 256), (512, 512)),
        ((128, 96), (128, 96), (128, 96)),
    ],
)
def test_thumbnail_sizes(
    make_request: MakeRequest, size: tuple[int, int], small: tuple[int, int], large: tuple[int, int]
) -> None:
    thumbnails = encode_picture(Image.new("RGB", size), make_request(), 1).thumbnails
    assert {side: opened(data).size for side, data in thumbnails.items()} == {256: small, 512: large}
    assert {opened(data).format for data in thumbnails.values()} == {"WEBP"}
