"""What the stores know of a source, and how large it will be."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from gpu_worker.request import ModelSource

_LARGEST_HEADER = 100 * 2**20  # safetensors' own limit


class Source(Protocol):
    """Where weights come from; `digest` as in `digests`, where it is known."""

    @property
    def slug(self) -> str: ...
    @property
    def location(self) -> str: ...
    @property
    def digest(self) -> str | None: ...


# Two slugs for the same files share one model: location, family, digest.
Key = tuple[str, str, str | None]


def key_of(source: ModelSource) -> Key:
    return source.location, source.family, source.digest


def estimated_bytes(location: str, number_bytes: int) -> int:
    """Bytes its weights will take at `number_bytes` per number, read from the files' headers.

    0 where that cannot be told: hub ids, broken files. Only the weights that diffusers reads count: of a
    folder, those of its parts, without variants.
    """
    path = Path(location)
    files = [path] if path.is_file() else list(_weight_files(path))
    return sum(_numbers(file) for file in files) * number_bytes


def _weight_files(folder: Path) -> Iterator[Path]:
    for file in folder.glob("*/*.safetensors"):
        whole = file.with_name(file.name.replace(".fp16.", ".").replace(".non_ema.", "."))
        if whole == file or not whole.exists():
            yield file


def _numbers(file: Path) -> int:
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 0 < length <= _LARGEST_HEADER:
            return 0
        text = stream.read(length)
    try:
        header = json.loads(text)
    except ValueError:
        return 0
    if not isinstance(header, dict):
        return 0
    return sum(_product(entry.get("shape", ())) for name, entry in header.items() if name != "__metadata__")


def _product(shape: list[int]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product
