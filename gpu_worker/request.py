"""What goes into the engine and what comes out. Imports no torch, so that any process may build a request."""

import math
from dataclasses import dataclass, replace

from gpu_worker.errors import BadRequest

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from.

    `location` is a diffusers folder, a hub id ("owner/name") or a `.safetensors` file; `family` ("sd15",
    "sdxl", "flux", …) says which pipeline reads a single file; `digest` is the SHA-256 of the weights where
    it is known.
    """

    slug: str
    location: str
    family: str
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class LoraSource:
    """A LoRA's `.safetensors` file, how strongly it is applied, and the file's SHA-256 where it is known."""

    slug: str
    location: str
    weight: float = 1.0
    digest: str | None = None

    @property
    def plain(self) -> "LoraSource":
        """The same file with a weight of 1: what is loaded, however strongly it is applied."""
        return replace(self, weight=1.0)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One order for `num_images` pictures of `width` x `height` pixels.

    Picture `i` uses the seed `seed + i`. A higher `tier_rank` is served first; `deadline` is an instant of
    `time.monotonic()`, after which nobody wants the result any more. `id` is unique among the requests in
    flight.

    With `init_image` (an encoded image, scaled to the size asked for) the pictures are variations of it, the
    further from it the closer `strength` is to 1; the first 1 - `strength` of the steps are left out. With
    `mask` too, only what is bright in the mask changes.
    """

    id: str
    model: ModelSource
    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance: float
    seed: int
    scheduler: str
    num_images: int
    tier_rank: int = 0
    deadline: float | None = None
    init_image: bytes | None = None
    mask: bytes | None = None
    strength: float = 0.8
    loras: tuple[LoraSource, ...] = ()

    def seed_of(self, index: int) -> int:
        """Seed of picture `index`; beyond the largest seed it starts again at 0."""
        return (self.seed + index) & MAX_SEED


@dataclass(frozen=True, slots=True)
class Progress:
    """Denoising steps finished of those to do. It starts again at 1 when a request is retried."""

    step: int
    total_steps: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG with its parameters embedded, and WEBP thumbnails by their longer side in pixels."""

    png: bytes
    thumbnails: dict[int, bytes]
    width: int
    height: int
    seed: int


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """Finished pictures and their cost.

    `gpu_seconds` covers encoding the prompt, denoising and decoding, never model loading; `peak_memory_bytes`
    is the most device memory allocated meanwhile, None where the device does not tell.
    """

    pictures: tuple[Picture, ...]
    gpu_seconds: float
    peak_memory_bytes: int | None


def check(request: GenerationRequest) -> None:
    """Refuse what no model can do. Raises `BadRequest` naming the field."""
    for name in ("width", "height", "steps", "num_images"):
        if getattr(request, name) < 1:
            raise BadRequest(f"{name} must be at least 1")
    if not 0 <= request.seed <= MAX_SEED:
        raise BadRequest(f"seed must be between 0 and {MAX_SEED}")
    if not math.isfinite(request.guidance):
        raise BadRequest("guidance must be a finite number")
    if not 0 < request.strength <= 1:
        raise BadRequest("strength must be above 0 and at most 1")
    if request.mask is not None and request.init_image is None:
        raise BadRequest("a mask needs an init_image")
    if not all(math.isfinite(lora.weight) for lora in request.loras):
        raise BadRequest("the weight of a LoRA must be a finite number")
