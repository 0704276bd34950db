"""A bounded pool that makes PNGs and thumbnails beside the GPU thread."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from gpu_worker.outcomes import as_engine_error
from gpu_worker.pictures import encode_picture
from gpu_worker.request import GenerationResult, Picture
from gpu_worker.stock import Run
from gpu_worker.tickets import Ticket


class Encoders:
    """Turns runs into results on `workers` threads. One thread calls `deliver`."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="encode")
        # Decoded pictures are large: when the encoders fall behind, the GPU thread waits for them here.
        self._room = threading.BoundedSemaphore(2 * workers)

    def deliver(self, ticket: Ticket, run: Run) -> None:
        """Encode the run's pictures and end the ticket with them; returns once all are taken on."""
        encodings = []
        for index, image in enumerate(run.images):
            self._room.acquire()
            seed = ticket.request.seed_of(index)
            encoding = self._pool.submit(encode_picture, image, ticket.request, seed)
            encoding.add_done_callback(lambda _: self._room.release())
            encodings.append(encoding)
        for encoding in encodings:
            encoding.add_done_callback(lambda _: _settle(ticket, run, encodings))

    def close(self) -> None:
        """Wait for what was taken on, then end the threads. May be called again."""
        self._pool.shutdown(wait=True)


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
