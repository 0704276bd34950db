"""Models and LoRAs for the requests in flight: asked for in order of urgency, held while they are needed."""

from collections.abc import Callable, Collection, Sequence

from gpu_worker.config import EngineConfig
from gpu_worker.devices import Placement
from gpu_worker.errors import EngineError
from gpu_worker.jobs import Need
from gpu_worker.memory import Budgets, Lease, LoraLease, LoraStore, ModelStore
from gpu_worker.memory.budgets import GIB
from gpu_worker.pipelines import Loader
from gpu_worker.request import LoraSource, ModelSource
from gpu_worker.speed import on_load

LORA_BYTES = 2 * GIB


class Supplies:
    """What is ready to run. The GPU thread alone uses it, apart from `loaded`.

    `released` is called before a model may leave the device, to leave it as it was loaded.
    """

    def __init__(
        self,
        config: EngineConfig,
        placement: Placement,
        loader: Loader,
        on_change: Callable[[], None],
        released: Callable[[Lease], None],
    ) -> None:
        budgets = Budgets.of(placement)
        if config.model_memory_gib is not None:
            budgets = Budgets(int(config.model_memory_gib * GIB), budgets.host)
        self.models = ModelStore(
            placement,
            budgets,
            loader,
            prepare=lambda pipe: on_load(pipe, config, placement),
            on_change=on_change,
        )
        self._loras = LoraStore(min(LORA_BYTES, budgets.host), on_change=on_change)
        self._on_change = on_change
        self._released = released
        self._leases: dict[ModelSource, Lease] = {}
        self._in_hand: dict[LoraSource, LoraLease] = {}
        self._yielded: set[ModelSource] = set()

    @property
    def can_offload(self) -> bool:
        return self.models.can_offload

    def failures(self) -> tuple[list[tuple[ModelSource, EngineError]], list[tuple[LoraSource, EngineError]]]:
        """What could not be loaded since the last call."""
        loras = [(lora, error) for lora, error in self._loras.failures() if isinstance(lora, LoraSource)]
        return self.models.failures(), loras

    def follow(
        self, needs: Sequence[Need], ahead: Sequence[ModelSource], kept: Collection[ModelSource]
    ) -> set[Need]:
        """Ask for what is needed, the most urgent first, then for what may be; return what is ready.

        Models `kept` are in the middle of something and stay.
        """
        models = list(dict.fromkeys([*kept, *(need.source for need in needs)]))
        self.models.want([*models, *(source for source in ahead if source not in models)])
        self._loras.want(list(dict.fromkeys(lora for need in needs for lora in need.loras)))
        for source in [source for source in self._leases if source not in models]:
            self.let_go(source)
        self._make_room(models, kept)
        for source in models:
            if source not in self._leases and source not in self._yielded:
                lease = self.models.lease(source)
                if lease is not None:
                    self._leases[source] = lease
        self._take_loras(needs)
        return {
            need
            for need in needs
            if need.source in self._leases and all(lora in self._in_hand for lora in need.loras)
        }

    def lease(self, source: ModelSource) -> Lease | None:
        """The model, if it is in hand."""
        return self._leases.get(source)

    def hold(self, source: ModelSource) -> Callable[[], None] | None:
        """Keep a model on the device until the result is called; None when it is not there. Any thread."""
        lease = self.models.lease(source)
        return None if lease is None else lease.release

    def loras(self, need: Need) -> list[LoraLease]:
        """The LoRAs of a need that is ready."""
        return [self._in_hand[source] for source in need.loras]

    def let_go(self, source: ModelSource) -> None:
        """Give a model back: it may be evicted, or come again as something else decided."""
        lease = self._leases.pop(source, None)
        if lease is not None:
            self._released(lease)
            lease.release()
            self._on_change()

    def is_loaded(self, source: ModelSource) -> bool:
        return any(one.on_device and one.source == source for one in self.models.residents())

    def loaded(self) -> tuple[str, ...]:
        """Slugs of the models on the device, the least recently used first. Any thread."""
        return tuple(one.source.slug for one in self.models.residents() if one.on_device)

    def close(self) -> None:
        for source in list(self._leases):
            self.let_go(source)
        for lora in self._in_hand.values():
            lora.release()
        self._in_hand.clear()
        self._loras.close()
        self.models.close()

    def _make_room(self, models: list[ModelSource], kept: Collection[ModelSource]) -> None:
        """Where a model waits for room that others hold, give back the least urgent one behind it."""
        waiting = [source for source in self.models.held_up() if source in models]
        if not waiting:
            self._yielded.clear()
            return
        behind = models[models.index(waiting[0]) + 1 :]
        self._yielded &= set(behind)
        victim = next((s for s in reversed(behind) if s in self._leases and s not in kept), None)
        if victim is not None:
            self._yielded.add(victim)
            self.let_go(victim)

    def _take_loras(self, needs: Sequence[Need]) -> None:
        needed = dict.fromkeys(lora for need in needs for lora in need.loras)
        for lora in [lora for lora in self._in_hand if lora not in needed]:
            self._in_hand.pop(lora).release()
        for lora in needed:
            if lora not in self._in_hand and (lease := self._loras.lease(lora)) is not None:
                self._in_hand[lora] = lease
