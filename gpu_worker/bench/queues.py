"""The requests that the benchmarks ask for. The same every time."""

import random
from collections.abc import Sequence

from gpu_worker.bench.subject import Size
from gpu_worker.request import GenerationRequest, ModelSource

MIXED_SAMPLERS = ("ddim", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_karras", "lcm", "unipc")


def request(source: ModelSource, name: str, size: Size, **changes: object) -> GenerationRequest:
    """A picture under guidance, in 20 Euler steps if nothing else is said."""
    fields: dict[str, object] = {
        "prompt": "a red ring",
        "negative_prompt": "",
        "steps": 20,
        "guidance": 5.0,
        "seed": 7,
        "scheduler": "euler",
        "num_images": 1,
    }
    return GenerationRequest(id=name, model=source, width=size[0], height=size[1], **(fields | changes))  # type: ignore[arg-type]


def uniform(
    source: ModelSource, size: Size, number: int, steps: int, scheduler: str = "euler"
) -> list[GenerationRequest]:
    """Single guided pictures that differ by their seed only."""
    return [request(source, f"{n}", size, steps=steps, seed=n, scheduler=scheduler) for n in range(number)]


def mixed(
    source: ModelSource, sizes: Sequence[Size], number: int, steps: tuple[int, int], seed: int = 3
) -> list[GenerationRequest]:
    """Requests of one model that differ in everything: size, sampler, steps (from, to), guidance (a quarter
    without) and number of pictures (one, now and then two)."""
    chance = random.Random(seed)
    return [
        request(
            source,
            f"{n}",
            sizes[n % len(sizes)],
            scheduler=MIXED_SAMPLERS[n % len(MIXED_SAMPLERS)],
            steps=chance.randint(*steps),
            guidance=chance.choice((1.0, 3.0, 5.0, 7.5)),
            num_images=chance.choice((1, 1, 1, 2)),
            seed=n,
        )
        for n in range(number)
    ]
