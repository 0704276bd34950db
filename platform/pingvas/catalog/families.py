"""What is known of each model family before any worker has loaded it: bounds, defaults, samplers."""

from collections.abc import Iterable
from dataclasses import dataclass

DIFFUSION_SAMPLERS = ("default", "ddim", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_karras", "unipc", "lcm")
FLOW_SAMPLERS = ("default", "flow_euler")


@dataclass(frozen=True)
class Family:
    """Sides in pixels; `price_factor` weighs a step at 512x512 against Stable Diffusion 1.5.

    `architecture` is what a worker is built for: families that share one also share a worker's queues.
    """

    architecture: str
    samplers: tuple[str, ...]
    default_side: int
    max_side: int
    min_side: int = 64
    side_multiple: int = 8
    default_steps: int = 30
    default_cfg_scale: float = 7.0
    default_scheduler: str = "dpmpp_2m"
    price_factor: float = 1.0


FAMILIES = {
    "tiny": Family("sd", DIFFUSION_SAMPLERS, 128, 256, min_side=128, default_steps=12, default_cfg_scale=4.0),
    "sd15": Family("sd", DIFFUSION_SAMPLERS, 512, 1024),
    "sd2": Family("sd", DIFFUSION_SAMPLERS, 768, 1024),
    "sdxl": Family("sdxl", DIFFUSION_SAMPLERS, 1024, 1536, default_cfg_scale=5.0, price_factor=1.5),
    "sd3": Family(
        "sd3",
        FLOW_SAMPLERS,
        1024,
        1536,
        side_multiple=16,
        default_steps=28,
        default_scheduler="flow_euler",
        price_factor=1.5,
    ),
    "flux": Family(
        "flux",
        FLOW_SAMPLERS,
        1024,
        1536,
        side_multiple=16,
        default_steps=28,
        default_cfg_scale=3.5,
        default_scheduler="flow_euler",
        price_factor=2.0,
    ),
    "other": Family("other", ("default",), 512, 1024, default_scheduler="default"),
}

ARCHITECTURES = tuple(dict.fromkeys(family.architecture for family in FAMILIES.values()))


def of_architectures(names: Iterable[str]) -> frozenset[str]:
    """Return the families of some architectures."""
    wanted = frozenset(names)
    return frozenset(name for name, family in FAMILIES.items() if family.architecture in wanted)
