"""Finished pictures on the worker's own disk, while store or database are away: GPU work is not done twice.

A file for each job, a ZIP archive that anybody can open; what is torn or cut off fails its checksums.
"""

import json
import logging
import os
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from gpu_worker.request import GenerationResult, Picture
from pingvas import settings

log = logging.getLogger(__name__)

OLDEST_SECONDS: Final = 86_400  # by then its job was drawn elsewhere or has failed

_CONTENTS: Final = "contents.json"


def keep(job_id: UUID, drawn: GenerationResult) -> bool:
    """Write a job's pictures to the disk; False when there is no room, which is no more than a pity."""
    folder = _folder()
    temporary = folder / f".{job_id}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _used(folder) + _size(drawn) > settings.get().kept_bytes:
            log.warning("job %s: the pictures kept take PINGVAS_KEPT_BYTES already", job_id)
            return False
        _write(temporary, drawn)
        temporary.replace(_file(job_id))
    except OSError as error:
        log.warning("job %s: its pictures cannot be kept on the disk: %s", job_id, error.strerror)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True


def find(job_id: UUID) -> GenerationResult | None:
    """Return what is kept of a job, if it is whole."""
    try:
        with zipfile.ZipFile(_file(job_id)) as archive:
            contents = json.loads(archive.read(_CONTENTS))
            pictures = tuple(_picture(archive, index, one) for index, one in enumerate(contents["pictures"]))
    except FileNotFoundError:
        return None
    except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        log.warning("job %s: what was kept of it cannot be read, it is drawn again: %r", job_id, error)
        return None
    return GenerationResult(pictures, contents["gpu_seconds"], None)


def forget(job_id: UUID) -> None:
    """Remove what is kept of a job that needs it no more."""
    with suppress(OSError):
        _file(job_id).unlink(missing_ok=True)


def forget_old() -> None:
    """Remove what nobody has asked for since yesterday."""
    with suppress(OSError):
        for file in _folder().iterdir():
            if time.time() - file.stat().st_mtime > OLDEST_SECONDS:
                file.unlink(missing_ok=True)


def _folder() -> Path:
    return settings.get().data_dir / "kept"


def _file(job_id: UUID) -> Path:
    return _folder() / f"{job_id}.zip"


def _used(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _size(drawn: GenerationResult) -> int:
    return sum(len(one.png) + sum(map(len, one.thumbnails.values())) for one in drawn.pictures)


def _write(file: Path, drawn: GenerationResult) -> None:
    pictures = [
        {"width": one.width, "height": one.height, "seed": one.seed, "sides": list(one.thumbnails)}
        for one in drawn.pictures
    ]
    with file.open("wb") as opened:
        with zipfile.ZipFile(opened, "w") as archive:
            archive.writestr(_CONTENTS, json.dumps({"gpu_seconds": drawn.gpu_seconds, "pictures": pictures}))
            for index, one in enumerate(drawn.pictures):
                archive.writestr(f"{index}.png", one.png)
                for side, data in one.thumbnails.items():
                    archive.writestr(f"{index}-{side}.webp", data)
        opened.flush()
        os.fsync(opened.fileno())


def _picture(archive: zipfile.ZipFile, index: int, said: dict[str, Any]) -> Picture:
    thumbnails = {side: archive.read(f"{index}-{side}.webp") for side in said["sides"]}
    return Picture(archive.read(f"{index}.png"), thumbnails, said["width"], said["height"], said["seed"])
