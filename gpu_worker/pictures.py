"""From a PIL image to a PNG that tells how it was made, and its WEBP thumbnails."""

import io
import json

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gpu_worker.request import GenerationRequest, Picture

THUMBNAIL_SIDES = (256, 512)
CHUNK_VERSION = 1
_WEBP_QUALITY = 82
# Measured: a third of the time of the default efforts, for files at most 5 % larger.
_WEBP_METHOD, _PNG_LEVEL = 2, 4

_A1111_SAMPLERS = {
    "ddim": "DDIM",
    "euler": "Euler",
    "euler_a": "Euler a",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_karras": "DPM++ 2M Karras",
    "unipc": "UniPC",
    "lcm": "LCM",
    "flow_euler": "Euler",
}


def encode_picture(pil: Image.Image, request: GenerationRequest, seed: int) -> Picture:
    """Encode one picture made for `request` with `seed`.

    Thumbnails have a longer side of 256 and 512 pixels, or the original's where that is shorter.
    """
    return Picture(
        png=_png(pil, request, seed),
        thumbnails={side: _thumbnail(pil, side) for side in THUMBNAIL_SIDES},
        width=pil.width,
        height=pil.height,
        seed=seed,
    )


def a1111_text(request: GenerationRequest, seed: int, size: tuple[int, int]) -> str:
    """The `parameters` text that the AUTOMATIC1111 web UI writes and most viewers read."""
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    fields = {
        "Steps": request.steps,
        "Sampler": _A1111_SAMPLERS.get(request.scheduler, request.scheduler),
        "CFG scale": f"{request.guidance:g}",
        "Seed": seed,
        "Size": f"{size[0]}x{size[1]}",
    }
    if request.model.digest:
        fields["Model hash"] = request.model.digest.removeprefix("sha256:")[:10]
    fields["Model"] = request.model.slug
    lines.append(", ".join(f"{name}: {value}" for name, value in fields.items()))
    return "\n".join(lines)


def pingvas_json(request: GenerationRequest, seed: int, size: tuple[int, int]) -> str:
    """The same as JSON in ASCII, without loss."""
    return json.dumps(
        {
            "version": CHUNK_VERSION,
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "model": request.model.slug,
            "model_digest": request.model.digest,
            "steps": request.steps,
            "guidance": request.guidance,
            "seed": seed,
            "scheduler": request.scheduler,
            "width": size[0],
            "height": size[1],
        }
    )


def _png(pil: Image.Image, request: GenerationRequest, seed: int) -> bytes:
    info = PngInfo()
    _add_text(info, "parameters", a1111_text(request, seed, pil.size))
    _add_text(info, "pingvas", pingvas_json(request, seed, pil.size))
    buffer = io.BytesIO()
    pil.save(buffer, "PNG", pnginfo=info, compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def _add_text(info: PngInfo, key: str, text: str) -> None:
    """tEXt is Latin-1 by the standard, but many readers take it for UTF-8: only ASCII is safe there."""
    if text.isascii():
        info.add_text(key, text)
    else:
        info.add_itxt(key, text.encode("utf-8", "replace").decode("utf-8"))


def _thumbnail(pil: Image.Image, side: int) -> bytes:
    small = pil.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)  # never enlarges
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=_WEBP_QUALITY, method=_WEBP_METHOD)
    return buffer.getvalue()
