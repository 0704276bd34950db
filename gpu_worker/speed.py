"""What makes a model faster on the device, each part optional (`EngineConfig`)."""

from typing import Any

import torch

from gpu_worker.config import EngineConfig
from gpu_worker.devices import Placement
from gpu_worker.memory.store import decode_one_by_one


def on_load(pipe: Any, config: EngineConfig, placement: Placement) -> None:
    """Once per model, in host memory and on the loading thread: nothing that runs waits for it."""
    decode_one_by_one(pipe)
    if config.channels_last and placement.device.type in ("cuda", "cpu"):
        # The layout that convolutions compute in: tensor cores in half precision, oneDNN on a CPU.
        for name in ("unet", "vae"):
            part: Any = getattr(pipe, name, None)
            if part is not None:
                part.to(memory_format=torch.channels_last)
