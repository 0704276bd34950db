"""The model that ships in the package: a fresh installation makes pictures without any download."""

from pathlib import Path

from gpu_worker.request import ModelSource

BUILTIN_TINY = ModelSource(
    slug="tiny", location=str(Path(__file__).resolve().parent / "models" / "tiny"), family="sd15"
)
