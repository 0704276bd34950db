"""Taking the ladder's measures on real models."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpu_worker.memory.ladder import Rung
from gpu_worker.memory.recovery import Decision, Measures, SizeKey
from gpu_worker.memory.store import ModelStore

LARGEST_TILE = 512
SMALLEST_TILE = 256
_ATTRIBUTES = ("use_tiling", "use_slicing", "tile_sample_min_size", "tile_latent_min_size")


def apply(decision: Decision, key: SizeKey, store: ModelStore) -> None:
    """Take the measure. To be called outside the `except` block, by the GPU thread.

    FREE evicts what is unlocked and frees caches. OFFLOAD takes hold with the model's next lease: release the
    one in hand and ask again. HALVE and TILE change nothing here: `Recovery.row_limit` and `decoding` do.
    """
    if decision.rung is Rung.FREE:
        store.evict_unlocked()
    elif decision.rung is Rung.OFFLOAD:
        store.offload(key.model)


@contextmanager
def decoding(pipe: Any, measures: Measures, width: int, height: int) -> Iterator[None]:
    """Within it, `pipe.vae` decodes in tiles if `measures` says so; sizes in pixels.

    Tiles are at most half the picture wide, since an autoencoder's own tile may be as large as the picture:
    then tiling would change nothing. Where the autoencoder knows no tiles, nothing happens.
    """
    vae: Any = getattr(pipe, "vae", None)
    if not measures.tiled or not hasattr(vae, "enable_tiling"):
        yield
        return
    before = {name: getattr(vae, name) for name in _ATTRIBUTES if hasattr(vae, name)}
    vae.enable_tiling()
    if hasattr(vae, "enable_slicing"):
        vae.enable_slicing()
    _cut(vae, tile_edge(width, height))
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(vae, name, value)


def tile_edge(width: int, height: int) -> int:
    """Pixels along a tile: half the longer side, within 256 and 512."""
    return max(SMALLEST_TILE, min(LARGEST_TILE, max(width, height) // 2))


def _cut(vae: Any, edge: int) -> None:
    """Autoencoders with other attributes keep their own tiles."""
    own_edge, own_latent = (getattr(vae, name, None) for name in _ATTRIBUTES[2:])
    if isinstance(own_edge, int) and isinstance(own_latent, int) and own_edge > edge and own_latent > 0:
        vae.tile_sample_min_size = edge
        vae.tile_latent_min_size = max(1, edge * own_latent // own_edge)
