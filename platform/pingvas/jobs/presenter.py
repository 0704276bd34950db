"""The job object of the contract, the same in answers and in events."""

import math
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pingvas import clock
from pingvas.gallery.models import Image
from pingvas.jobs.eta import Place
from pingvas.jobs.models import Job


def image_object(image: Image, base_url: str) -> dict[str, Any]:
    """Return a picture as it stands in a job object."""
    url = f"{base_url}/api/v1/images/{image.id}"
    return {
        "id": str(image.id),
        "url": f"{url}/content",
        "thumbnail_url": f"{url}/thumbnail",
        "width": image.width,
        "height": image.height,
        "seed": image.seed,
    }


def job_object(
    job: Job,
    images: Sequence[Image],
    *,
    base_url: str,
    progress: dict[str, Any] | None = None,
    place: Place | None = None,
    replayed_by: UUID | None = None,
) -> dict[str, Any]:
    """Return a job as clients see it. `base_url` has no trailing slash; `place` is a waiting one's,
    `replayed_by` a failed one's."""
    pictures_of_job = [image_object(image, base_url) for image in images]
    return {
        "job_id": str(job.id),
        "kind": job.kind,
        "status": str(job.status),
        "tier": job.tier,
        "model": job.model,
        "prompt": job.prompt,
        "priority": job.priority,
        "parameters": job.parameters,
        "attempt": job.attempt,
        "position": place.position if place else None,
        "eta_seconds": {"p50": place.wait.p50, "p90": place.wait.p90} if place and place.wait else None,
        "progress": progress or _progress(job),
        "image_url": pictures_of_job[0]["url"] if pictures_of_job else None,
        "images": pictures_of_job,
        "credits_quoted": job.credits_quoted,
        "credits_consumed": job.credits_consumed,
        "gpu_seconds": job.gpu_seconds,
        "duration_seconds": _duration(job),
        "error": _error(job),
        "error_message": job.error_detail,
        "reason": _reason(job),
        "replay_of": job.replay_of and str(job.replay_of),
        "replayed_by": replayed_by and str(replayed_by),
        "created_at": clock.rfc3339(job.created_at),
        "started_at": clock.rfc3339(job.started_at),
        "completed_at": clock.rfc3339(job.completed_at),
    }


def _progress(job: Job) -> dict[str, Any]:
    total = int(str(job.parameters["steps"]))
    done = total if job.status == "completed" else 0
    return {"step": done, "total_steps": total, "percent": 100 if done else 0}


def _duration(job: Job) -> int | None:
    if job.started_at is None or job.completed_at is None:
        return None
    return math.ceil((job.completed_at - job.started_at).total_seconds())


def _error(job: Job) -> dict[str, Any] | None:
    if job.error_code is None:
        return None
    return {"code": job.error_code, "detail": job.error_detail, "retryable": job.error_retryable}


def _reason(job: Job) -> str | None:
    """Return why a job ended without pictures, in words."""
    if job.status != "cancelled":
        return job.error_detail if job.status == "failed" else None
    if not job.credits_consumed:
        return "Cancelled on request. Nothing is charged."
    return f"Cancelled on request while it ran. The {job.gpu_seconds:.1f} GPU seconds it used are charged."
