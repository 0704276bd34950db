"""Reading diffusers pipelines from disk or hub."""

import inspect
import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import SafetensorError

from gpu_worker.devices import is_out_of_memory
from gpu_worker.errors import ModelUnavailable
from gpu_worker.request import ModelSource

log = logging.getLogger(__name__)
_library: Any
for _library in (diffusers, transformers):
    _library.utils.logging.disable_progress_bar()  # a worker's log is no terminal

# Held while modules are built. diffusers builds them without memory by patching `torch.nn.Module` for the
# whole process: a module built meanwhile by another thread, such as a LoRA's, would be empty for good.
BUILDING = threading.RLock()

# A loader returns a pipeline in host memory, in the dtype given, and raises `ModelUnavailable`.
Loader = Callable[[ModelSource, torch.dtype], Any]

SINGLE_FILE_PIPELINES = {
    "sd15": "StableDiffusionPipeline",
    "sd2": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "flux": "FluxPipeline",
}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
# What diffusers, transformers and safetensors raise on files that are missing, cut short or of another model.
_BROKEN = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
    SafetensorError,
)


def load(source: ModelSource, dtype: torch.dtype) -> Any:
    """Read a text-to-image pipeline into host memory.

    Folders and hub ids load as the pipeline class they name; only safetensors weights are read, since a
    pickle may run code. A single file loads by `source.family`; a folder beside it with the same name but no
    suffix may hold its configs and tokenizers, otherwise diffusers takes those from the hub. Raises
    `ModelUnavailable`.
    """
    try:
        with BUILDING:
            if source.location.endswith(".safetensors"):
                pipe = _load_single_file(source, dtype)
            else:
                pipe = _load_folder(source, dtype)
    except _BROKEN as error:
        if is_out_of_memory(error):
            raise
        log.warning("model %s at %s: %s", source.slug, source.location, error)
        message = f"model {source.slug!r} cannot be loaded: its files are missing or broken"
        raise ModelUnavailable(message) from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _load_folder(source: ModelSource, dtype: torch.dtype) -> Any:
    if not Path(source.location).is_dir() and not _HUB_ID.fullmatch(source.location):
        raise ModelUnavailable(f"model {source.slug!r} cannot be loaded: its folder is missing")
    index: dict[str, Any] = diffusers.DiffusionPipeline.load_config(source.location)
    pipeline_class: Any = diffusers.DiffusionPipeline
    return pipeline_class.from_pretrained(
        source.location, dtype=dtype, use_safetensors=True, **_no_safety_checker(index)
    )


def _no_safety_checker(index: dict[str, Any]) -> dict[str, Any]:
    """Moderation is the platform's business. Only pipelines that know these arguments may be given them."""
    off = {"safety_checker": None, "requires_safety_checker": False}
    return {name: value for name, value in off.items() if name in index}


def _load_single_file(source: ModelSource, dtype: torch.dtype) -> Any:
    path = Path(source.location)
    if not path.is_file():
        raise ModelUnavailable(f"model {source.slug!r} cannot be loaded: its file is missing")
    if source.family not in SINGLE_FILE_PIPELINES:
        known = ", ".join(SINGLE_FILE_PIPELINES)
        raise ModelUnavailable(
            f"model {source.slug!r} cannot be loaded: a single file needs a family among {known}, "
            f"not {source.family!r}"
        )
    options: dict[str, Any] = {"dtype": dtype}
    if path.with_suffix("").is_dir():
        options["config"] = str(path.with_suffix(""))
    if source.family in ("sd15", "sd2"):
        options["safety_checker"] = None
    return getattr(diffusers, SINGLE_FILE_PIPELINES[source.family]).from_single_file(str(path), **options)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A pipeline, with what the engine needs to know of it.

    `own_scheduler` is the one it came with: requests get their own, built from its config. `accepts` names
    the arguments of its call; width and height must be multiples of `size_multiple` pixels.
    """

    source: ModelSource
    pipe: Any
    own_scheduler: Any
    accepts: frozenset[str]
    size_multiple: int

    @classmethod
    def of(cls, source: ModelSource, pipe: Any) -> "LoadedModel":
        # A transformer that packs 2x2 latents into one token rounds other sizes down, silently.
        packing = 2 if hasattr(pipe, "_pack_latents") else getattr(pipe, "patch_size", 1)
        return cls(
            source=source,
            pipe=pipe,
            own_scheduler=pipe.scheduler,
            accepts=frozenset(inspect.signature(pipe.__call__).parameters),
            size_multiple=getattr(pipe, "vae_scale_factor", 1) * packing,
        )
