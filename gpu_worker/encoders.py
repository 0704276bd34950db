"""A bounded pool that makes PNGs and thumbnails beside the GPU thread."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from PIL import Image

from gpu_worker.outcomes import as_engine_error
from gpu_worker.pictures import encode_picture
from gpu_worker.request import GenerationRequest, GenerationResult, Picture
from gpu_worker.tickets import Ticket

# A picture as a stock pipeline leaves it, or bytes on the device, (3, H, W).
Raw = Image.Image | torch.Tensor


@dataclass(frozen=True, slots=True)
class Run:
    """What a request came to: pictures in order, seconds of the device, bytes at the peak."""

    pictures: tuple[Raw, ...]
    gpu_seconds: float
    peak_memory_bytes: int | None


class Encoders:
    """Turns runs into results on `workers` threads. One thread calls `deliver`."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="encode")
        # Decoded pictures are large: when the encoders fall behind, the GPU thread waits for them here.
        self._room = threading.BoundedSemaphore(2 * workers)

    def deliver(self, ticket: Ticket, run: Run) -> None:
        """Encode the run's pictures and end the ticket with them; returns once all are taken on."""
        encodings = []
        for index, picture in enumerate(run.pictures):
            self._room.acquire()
            seed = ticket.request.seed_of(index)
            encoding = self._pool.submit(_encode, picture, ticket.request, seed)
            encoding.add_done_callback(lambda _: self._room.release())
            encodings.append(encoding)
        for encoding in encodings:
            encoding.add_done_callback(lambda _: _settle(ticket, run, encodings))

    def close(self) -> None:
        """Wait for what was taken on, then end the threads. May be called again."""
        self._pool.shutdown(wait=True)


def _encode(raw: Raw, request: GenerationRequest, seed: int) -> Picture:
    if isinstance(raw, torch.Tensor):
        # Fetched here, so that the thread that feeds the device does not wait for it.
        raw = Image.fromarray(raw.permute(1, 2, 0).cpu().numpy())
    return encode_picture(raw, request, seed)


def _settle(ticket: Ticket, run: Run, encodings: list[Future[Picture]]) -> None:
    """End the ticket once its last picture is encoded (two encoders finishing together may both do so)."""
    if not all(encoding.done() for encoding in encodings):
        return
    errors = [error for encoding in encodings if (error := encoding.exception()) is not None]
    if errors:
        ticket.fail(as_engine_error(errors[0]))
        return
    pictures = tuple(encoding.result() for encoding in encodings)
    ticket.succeed(GenerationResult(pictures, run.gpu_seconds, run.peak_memory_bytes))
