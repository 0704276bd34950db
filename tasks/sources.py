"""From a catalogue slug to what the engine loads."""

from dataclasses import replace

from gpu_worker.builtin import BUILTIN_TINY
from gpu_worker.errors import ModelUnavailable
from gpu_worker.request import ModelSource
from pingvas.catalog import entries


class ModelRemoved(ModelUnavailable):
    """The model left the catalogue after the job was accepted; nothing is broken."""

    code = "MODEL_REMOVED"


def of(slug: str) -> ModelSource:
    """Return the source of a model.

    Raises:
        ModelRemoved: the catalogue no longer has it.
    """
    entry = entries.find(slug)
    if entry is None:
        raise ModelRemoved(f"The catalogue no longer has a model {slug!r}.")
    if entry.location == entries.BUILTIN:
        return replace(BUILTIN_TINY, slug=slug)
    return ModelSource(slug=slug, location=entry.location, family=entry.family)
