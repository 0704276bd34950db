"""LoRA files in host memory, checked and within a budget of bytes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import torch

from gpu_worker.errors import EngineError


class LoraSource(Protocol):
    """A LoRA's `.safetensors` file; `digest` is the file's SHA-256 where it is known."""

    @property
    def slug(self) -> str: ...
    @property
    def location(self) -> str: ...
    @property
    def digest(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """A LoRA in host memory; the tensors are shared, not to be changed.

    `state_dict` has the file's own key names and dtypes; `ranks` the distinct ranks of its matrices,
    ascending; `metadata` the file's text header; `bytes` the tensors' size.
    """

    state_dict: Mapping[str, torch.Tensor]
    ranks: tuple[int, ...]
    metadata: Mapping[str, str]
    bytes: int


class LoraLease:
    """A LoRA that stays in memory until `release`. Also a context manager."""

    def __init__(self, source: LoraSource, weights: LoraWeights, release: Callable[[], None]) -> None:
        self.source = source
        self.weights = weights
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give it back; again is harmless. Any thread."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class LoraStore:
    """LoRAs by the same rules as `ModelStore`: want, then lease; locked ones stay, the oldest use goes first.

    Refuses everything but safetensors (a pickle may run code), DoRA, LoHa and LoKr.
    """

    def __init__(self, budget: int, *, on_change: Callable[[], None] = lambda: None) -> None:
        """`budget`: bytes of host memory."""

    def want(self, sources: Sequence[LoraSource]) -> None:
        """What to read in the background, most urgent first; replaces the last list."""

    def lease(self, source: LoraSource) -> LoraLease | None:
        """The LoRA if it is in memory, locked until released."""
        return None

    def failures(self) -> list[tuple[LoraSource, EngineError]]:
        """Sources that could not be read since the last call, as `ModelUnavailable`."""
        return []

    def close(self, timeout: float = 30.0) -> None:
        """Stop the thread and drop everything."""
