"""An allocator that gives up where it is told to: the ladder is proved on a machine with memory to spare."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from gpu_worker.memory.ladder import Stage
from gpu_worker.memory.transfers import Transfer


@dataclass(frozen=True, slots=True)
class Use:
    """What is about to be computed: `rows` of the batch; `edge`, the longer side of the input, in latents.

    Text and loads have no edge (0); a load has one row.
    """

    stage: Stage
    rows: int
    edge: int = 0


class FaultyAllocator:
    """Raises `torch.OutOfMemoryError` for each use that `refuses` says yes to.

    `refused` and `granted` are what happened, in order. `refuses` may be replaced at any time.
    """

    def __init__(self, refuses: Callable[[Use], bool]) -> None:
        self.refuses = refuses
        self.refused: list[Use] = []
        self.granted: list[Use] = []

    def ask(self, use: Use) -> None:
        """Raises `torch.OutOfMemoryError` where `use` is refused."""
        if self.refuses(use):
            self.refused.append(use)
            raise torch.OutOfMemoryError(f"out of memory (injected): {use}")
        self.granted.append(use)

    @contextmanager
    def on(self, pipe: Any) -> Iterator[None]:
        """Within it, the pipeline's encoders, denoiser and decoder ask first."""
        vae: Any = getattr(pipe, "vae", None)
        watched: list[tuple[Any, Stage]] = [
            (getattr(pipe, "unet", None) or getattr(pipe, "transformer", None), "denoise"),
            (getattr(vae, "decoder", None), "decode"),
            *((getattr(pipe, name, None), "encode") for name in ("text_encoder", "text_encoder_2")),
        ]
        hooks = [self._watch(module, stage) for module, stage in watched if module is not None]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def loading(self, loader: Callable[..., Any]) -> Callable[..., Any]:
        """`loader`, asking first."""

        def load(*arguments: Any) -> Any:
            self.ask(Use("load", 1))
            return loader(*arguments)

        return load

    def sending(self, transfer: Transfer) -> Transfer:
        """`transfer`, asking first whenever something goes to the device."""
        return _FaultyTransfer(transfer, self)

    def _watch(self, module: torch.nn.Module, stage: Stage) -> Any:
        def ask(module: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            tensor = next(v for v in (*arguments, *named.values()) if isinstance(v, torch.Tensor))
            edge = max(tensor.shape[-2:]) if tensor.dim() == 4 else 0
            self.ask(Use(stage, tensor.shape[0], edge))

        return module.register_forward_pre_hook(ask, with_kwargs=True)


class _FaultyTransfer:
    def __init__(self, transfer: Transfer, allocator: FaultyAllocator) -> None:
        self._allocator = allocator
        self._transfer = transfer
        self.host_buffer = transfer.host_buffer
        self.fetch = transfer.fetch
        self.mark = transfer.mark

    def send(self, buffers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        self._allocator.ask(Use("load", 1))
        return self._transfer.send(buffers)
