"""Running a model whose weights stay in host memory and visit the device layer by layer."""

from typing import Any

import torch
from diffusers.hooks.group_offloading import apply_group_offloading

from gpu_worker.memory.weights import modules_of


def stream_from_host(pipe: Any, device: torch.device) -> None:
    """Install diffusers' group offloading on all models of `pipe`, one leaf layer at a time, for good.

    On CUDA the next layer comes by a side stream while the current one computes. The device then holds a few
    layers at most. Raises what diffusers raises on modules it cannot offload.
    """
    for module in modules_of(pipe):
        apply_group_offloading(
            module,
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="leaf_level",
            use_stream=device.type == "cuda",
        )
