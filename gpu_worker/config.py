"""Settings of the engine. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from gpu_worker.scheduling import SchedulingConfig

Dtype = Literal["auto", "fp32", "fp16", "bf16"]

_DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How one engine uses one device.

    `device` is auto (CUDA, else MPS, else CPU), cpu, mps, cuda or cuda:N; `dtype` auto is bf16 on CUDA (fp16
    where bf16 is missing) and fp32 elsewhere; `model_memory_gib` is what models' weights may take on the
    device (None: what it has, without a reserve for the rest); `threads` caps the CPU threads of a tensor
    operation (None: torch decides); `encode_workers` threads make PNGs and thumbnails.

    For speed: `channels_last` (CUDA and CPU) and `compile`, the denoiser's blocks by `torch.compile` beside
    the running steps. `scheduling` says how large steps get and who shares them.
    """

    device: str = "auto"
    dtype: Dtype = "auto"
    model_memory_gib: float | None = None
    threads: int | None = None
    encode_workers: int = 2
    channels_last: bool = True
    compile: bool = False
    scheduling: SchedulingConfig = field(default_factory=SchedulingConfig)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "EngineConfig":
        """Read `PINGVAS_GPU_DEVICE`, `_DTYPE`, `_MODEL_MEMORY_GIB`, `_THREADS` and `_COMPILE`.

        Missing or empty ones keep the default. Raises `ValueError` naming the variable.
        """
        return cls(
            device=_device(env),
            dtype=_dtype(env),
            model_memory_gib=_size(env, "PINGVAS_GPU_MODEL_MEMORY_GIB"),
            threads=_count(env, "PINGVAS_GPU_THREADS"),
            compile=_switch(env, "PINGVAS_GPU_COMPILE"),
        )


def _device(env: Mapping[str, str]) -> str:
    value = env.get("PINGVAS_GPU_DEVICE", "").strip().lower() or "auto"
    kind, colon, index = value.partition(":")
    if value in _DEVICES or (kind == "cuda" and colon and index.isdecimal()):
        return value
    raise ValueError(f"PINGVAS_GPU_DEVICE must be auto, cpu, mps, cuda or cuda:N, not {value!r}")


def _dtype(env: Mapping[str, str]) -> Dtype:
    value = env.get("PINGVAS_GPU_DTYPE", "").strip().lower() or "auto"
    if value not in get_args(Dtype):
        raise ValueError(f"PINGVAS_GPU_DTYPE must be one of {', '.join(get_args(Dtype))}, not {value!r}")
    return cast(Dtype, value)


def _count(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {text!r}")
    return int(text)


def _switch(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name, "").strip().lower() or "0"
    if text not in ("0", "1", "false", "true"):
        raise ValueError(f"{name} must be 0 or 1, not {text!r}")
    return text in ("1", "true")


def _size(env: Mapping[str, str], name: str) -> float | None:
    text = env.get(name, "").strip()
    if not text:
        return None
    whole, _, part = text.partition(".")
    if not (whole + part).isdecimal() or float(text) <= 0:
        raise ValueError(f"{name} must be a number above 0, not {text!r}")
    return float(text)
