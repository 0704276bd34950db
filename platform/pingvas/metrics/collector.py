"""The numbers of an instance: one process tells them all, for they are in the database."""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from pingvas import beats, workers
from pingvas.jobs import queues, stuck
from pingvas.jobs.dead_letters import finding as dead_letters

RECONCILE: Final = "tasks.control.reconcile"


class Collector:
    """A collector of prometheus_client: `REGISTRY.register(Collector())`."""

    def collect(self) -> Iterator[Metric]:
        """Ask the database; a scrape costs some ten indexed queries."""
        yield from _queues()
        yield from _beat(beats.lags())
        letters = _gauge("dead_letters_open", "Dead letters that wait for an operator.", "class")
        for class_, count in dead_letters.by_class().items():
            letters.add_metric([class_.value], count)
        yield letters
        yield _number(
            "leases_expired", "Running jobs whose lease several sweeps have missed.", stuck.expired_leases()
        )
        yield _number("bells_unanswered", "Waiting jobs that were rung long ago.", stuck.unanswered())

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked when the collector is registered."""
        return []


def _queues() -> Iterator[Metric]:
    waiting = _gauge("jobs_waiting", "Jobs that wait.", "tier")
    running = _gauge("jobs_running", "Jobs that run.", "tier")
    oldest = _gauge("oldest_waiting_seconds", "How long the first job of a tier waits; 0: none does.", "tier")
    there = _gauge("workers", "GPU workers that are there and serve the tier.", "tier")
    live, waits = workers.live(), {found.tier.value: found.seconds for found in stuck.oldest()}
    for queue in queues.snapshot():
        waiting.add_metric([queue.tier], queue.waiting)
        running.add_metric([queue.tier], queue.running)
        oldest.add_metric([queue.tier], waits.get(queue.tier, 0.0))
        there.add_metric([queue.tier], sum(queue.tier in worker.tiers for worker in live))
    yield from (waiting, running, oldest, there)


def _beat(lags: list[beats.Lag]) -> Iterator[Metric]:
    lag = _gauge("beat_lag_seconds", "Time since a scheduled task last ended well.", "task")
    period = _gauge("beat_period_seconds", "How often it should.", "task")
    took = _gauge("beat_duration_seconds", "Length of its last run.", "task")
    failed = _gauge("beat_failed", "1: its last run ended with an error.", "task")
    runs = CounterMetricFamily("pingvas_beat_runs", "Runs that were begun.", labels=["task"])
    errors = CounterMetricFamily("pingvas_beat_errors", "Runs that ended with an error.", labels=["task"])
    for one in lags:
        name = [one.task.rpartition(".")[2]]
        lag.add_metric(name, one.seconds)
        period.add_metric(name, one.period_seconds)
        took.add_metric(name, one.took or 0.0)
        failed.add_metric(name, one.error is not None)
        runs.add_metric(name, one.runs)
        errors.add_metric(name, one.errors)
    yield from (lag, period, took, failed, runs, errors)
    wrong = next((sum((one.result or {}).values()) for one in lags if one.task == RECONCILE), 0)
    yield _number("books_wrong", "What the last proof of the books found wrong; must be 0.", wrong)


def _gauge(name: str, text: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pingvas_{name}", text, labels=[label])


def _number(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pingvas_{name}", text, value=value)
