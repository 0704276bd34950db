"""A request with everything the engine has made of it so far."""

from dataclasses import dataclass, field
from typing import Any

from gpu_worker.memory import SizeKey
from gpu_worker.memory.sources import key_of
from gpu_worker.request import GenerationRequest, LoraSource, ModelSource
from gpu_worker.scheduling import Entry
from gpu_worker.stepping.trajectory import Trajectory
from gpu_worker.stock import StockRun
from gpu_worker.tickets import Ticket


@dataclass(frozen=True, slots=True)
class Need:
    """What must be in memory before a request can run: a model, and LoRAs whatever their weight."""

    source: ModelSource
    loras: tuple[LoraSource, ...] = ()

    @classmethod
    def of(cls, request: GenerationRequest) -> "Need":
        return cls(request.model, tuple(dict.fromkeys(lora.plain for lora in request.loras)))


@dataclass(eq=False, slots=True)
class Job:
    """A ticket and its place in the schedule. The GPU thread alone touches the fields from `work` on.

    `taken`: the GPU thread has it, so that it can only end at a step; a lock guards this one. `pixels` are
    finished pictures, (3, H, W) on the device.
    """

    ticket: Ticket
    entry: Entry
    taken: bool = False
    work: Trajectory | StockRun | None = None
    pixels: list[Any] = field(default_factory=list)

    @classmethod
    def of(cls, ticket: Ticket, now: float) -> "Job":
        request = ticket.request
        entry = Entry(
            id=request.id,
            key=None,  # until the model is there to say what it can share a step with
            model=Need.of(request),
            rank=request.tier_rank,
            rows=request.num_images,
            steps_left=request.steps,
            arrived=now,
            deadline=request.deadline,
        )
        return cls(ticket, entry)

    @property
    def request(self) -> GenerationRequest:
        return self.ticket.request

    @property
    def need(self) -> Need:
        assert isinstance(self.entry.model, Need)
        return self.entry.model

    @property
    def size(self) -> SizeKey:
        return SizeKey(self.request.model, self.request.width, self.request.height)

    def shared_key(self) -> tuple[object, ...]:
        """Equal for requests of one family that can share steps."""
        return (*key_of(self.request.model), self.request.width, self.request.height)

    def own_key(self) -> tuple[object, ...]:
        """Of a request that shares its steps with none."""
        return (*self.shared_key(), self.request.id)

    def close(self) -> None:
        """Let go of memory. May be called again."""
        if isinstance(self.work, StockRun):
            self.work.close()
        self.work = None
        self.pixels.clear()
