"""What should be on the device, and what must not leave it."""

from dataclasses import dataclass, field

from gpu_worker.scheduling import SchedulingConfig
from tests.gpu_worker.scheduling.world import World

CONFIG = SchedulingConfig(step_budget_seconds=10.0, look_past=4, ageing_steps=5, ageing_load_steps=20)


@dataclass
class Cache:
    """Room for `room` models; loads what `wanted` asks for in `load_ticks` steps, evicts from its end."""

    world: World
    room: int
    load_ticks: int = 3
    loaded: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    loading: tuple[str, int] | None = None

    def follow(self) -> None:
        wanted = [str(model) for model in self.world.scheduler.wanted(self.world.now)]
        if self.loading is None:
            self._begin(wanted)
        else:
            model, left = self.loading
            self.loading = (model, left - 1) if left > 1 else None
            if left == 1:
                self.loaded.append(model)
                self.world.ready(model)

    def _begin(self, wanted: list[str]) -> None:
        missing = [model for model in wanted if model not in self.loaded]
        if not missing:
            return
        before = wanted[: wanted.index(missing[0])]
        if len(self.loaded) >= self.room:
            victims = [m for m in self.loaded if m not in before]
            if not victims:
                return
            victim = max(victims, key=lambda m: wanted.index(m) if m in wanted else len(wanted))
            self.loaded.remove(victim)
            self.world.scheduler.set_ready(victim, False)
        self.loading = (missing[0], self.load_ticks)
        self.loads.append(missing[0])


def test_models_are_wanted_in_the_order_of_their_work() -> None:
    world = World(CONFIG)
    world.ready("a")
    world.add("a", rank=1)
    world.add("b", rank=1)
    world.add("c", rank=4)
    world.add("d", rank=0)
    assert world.scheduler.wanted(0.0) == ["c", "a", "b", "d"]
    world.scheduler.cancel("3")
    assert world.scheduler.wanted(0.0) == ["a", "b", "d"]


def test_the_device_works_while_a_payers_model_loads_and_turns_to_it_at_once() -> None:
    world = World(CONFIG)
    world.ready("a")
    world.add("a", steps=50)
    payer = world.add("b", rank=4)
    assert all(batch.key == "a" for batch in world.steps(5))
    assert world.scheduler.wanted(0.0)[0] == "b"
    world.ready("b")
    assert world.pick() == [payer.id]


def test_a_stream_of_ready_work_does_not_keep_another_model_out_for_ever() -> None:
    world, ticks = World(CONFIG), 0
    cache = Cache(world, room=1)
    other = None
    while other is None or other.id not in world.done_tick:
        ticks += 1
        world.add("a", steps=4)
        if ticks == 10:
            other = world.add("b", steps=4)
        cache.follow()
        world.step()
        assert ticks < 100
    assert cache.loads[:2] == ["a", "b"]


def test_models_of_one_tier_do_not_chase_each_other_out() -> None:
    world = World(CONFIG)
    cache = Cache(world, room=1)
    for _ in range(40):
        world.add("a", steps=4)
        world.add("b", steps=4)
    while len(world.scheduler):
        cache.follow()
        world.step()
        assert world.now < 1000
    assert len(cache.loads) <= 80 / CONFIG.look_past


def test_free_work_gets_its_model_and_its_share_beside_endless_payers() -> None:
    world = World(CONFIG)
    cache = Cache(world, room=2)
    for _ in range(6):
        world.add("x", rank=4, steps=6)
        world.add("y", rank=4, steps=6)
        cache.follow()
        world.step()
    free = world.add("f", rank=0, steps=3)
    for _ in range(400):
        while len(world.scheduler) < 20:
            world.add("x", rank=4, steps=6)
            world.add("y", rank=4, steps=6)
        cache.follow()
        world.step()
    assert free.id in world.done_tick
    assert cache.loads.count("f") == 1  # kept until it was done


def test_free_work_never_evicts_the_model_payers_are_using() -> None:
    world = World(CONFIG)
    cache = Cache(world, room=1)
    world.add("f", rank=0)
    for _ in range(200):
        world.add("x", rank=4, steps=6)
        cache.follow()
        world.step()
    assert cache.loads == ["x"]
