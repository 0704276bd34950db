"""The event stream over HTTP: order, resumption, and what happens when Redis forgets."""

from threading import Thread
from typing import TYPE_CHECKING

import httpx
import pytest
import redis

from pingvas import events, ids

if TYPE_CHECKING:
    from tests.events.conftest import Api

pytestmark = pytest.mark.usefixtures("events_url")


def progress(job_id: str, step: int) -> str:
    published = events.publish(job_id, "progress", {"step": step})
    assert published is not None
    return published


def begun(job_id: str) -> str:
    """Publish what every job's stream begins with."""
    published = events.publish(job_id, "status", {"status": "in_progress", "attempt": 1})
    assert published is not None
    return published


def number(place: str) -> tuple[int, ...]:
    return tuple(int(part) for part in place.split("-"))


def test_from_the_first_event_to_the_last(api: "Api") -> None:
    job = api.new_job()
    first = events.publish(job, "status", {"status": "in_progress", "attempt": 1})
    with api.sse(job, {"X-Request-Id": "from-the-client"}) as stream:
        headers = stream.response.headers
        assert stream.response.status_code == 200
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["cache-control"] == "no-cache"
        assert headers["x-accel-buffering"] == "no"
        assert headers["x-request-id"] == "from-the-client"
        assert "etag" not in headers
        stream.begins(job)
        assert stream.next() == (first, "status", {"status": "in_progress", "attempt": 1})
        second = progress(job, 1)
        assert stream.next() == (second, "progress", {"step": 1})
        last = events.publish(job, "completed", {"status": "completed"})
        assert stream.rest() == [(last, "completed", {"status": "completed"})]


@pytest.mark.parametrize(
    ("kind", "data"), [("failed", {"status": "failed"}), ("status", {"status": "cancelled"})]
)
def test_other_ends(api: "Api", kind: str, data: dict[str, str]) -> None:
    job = api.new_job()
    progress(job, 1)
    end = events.publish(job, kind, data)
    with api.sse(job) as stream:
        assert stream.rest()[-1] == (end, kind, data)


def test_refusals_are_flasks_own(api: "Api") -> None:
    job = api.new_job()
    url = f"{api.url}/api/v1/jobs/{job}/events"
    refused = httpx.get(url, headers={"Authorization": "Bearer bad", "Accept": "text/event-stream"})
    assert refused.status_code == 401
    assert refused.json() == {"code": "UNAUTHORIZED"}
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["x-request-id"]
    assert httpx.get(f"{api.url}/api/v1/jobs/{ids.new()}/events", headers=api.auth).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/jobs/not-a-uuid/events", 404),
        ("GET", "/api/v1/jobs/{job}/events/", 404),
        ("HEAD", "/api/v1/jobs/{job}/events", 404),
        ("POST", "/api/v1/jobs/{job}/events", 404),
        ("HEAD", "/api/v1/jobs/{job}", 200),
        ("POST", "/api/v1/jobs/{job}", 405),
    ],
)
def test_everything_else_is_flasks(api: "Api", method: str, path: str, status: int) -> None:
    url = api.url + path.format(job=api.new_job())
    assert httpx.request(method, url, headers=api.auth).status_code == status


@pytest.mark.parametrize("by_query", [False, True])
def test_resumption_under_concurrent_publishing(api: "Api", by_query: bool) -> None:
    job, total = api.new_job(), 300

    def publish() -> None:
        for step in range(total):
            progress(job, step)
        events.publish(job, "completed", {"status": "completed"})

    begun(job)
    publisher = Thread(target=publish)
    publisher.start()
    seen: list[int] = []
    last, ended = "", False
    while not ended:
        headers = {"Last-Event-ID": last} if last and not by_query else None
        query = f"?last_event_id={last}" if last and by_query else ""
        with api.sse(job, headers, query) as stream:
            for _ in range(37):  # then hang up, and come back
                event = stream.next()
                assert event is not None
                last, kind, data = event
                ended = kind == "completed"
                if ended:
                    assert stream.next() is None
                    break
                if kind == "progress":
                    seen.append(data["step"])
    publisher.join()
    assert seen == list(range(total))


def test_a_lost_doorbell_costs_a_keep_alive_at_most(api: "Api", events_url: str) -> None:
    job = api.new_job()
    begun(job)
    with api.sse(job) as stream:
        assert stream.next() is not None
        client = redis.Redis.from_url(events_url, decode_responses=True)
        silent = client.xadd(events.stream_key(job), {"type": "completed", "data": '{"status":"completed"}'})
        assert stream.rest() == [(silent, "completed", {"status": "completed"})]
        assert stream.comments <= 1


def test_silence_is_told(api: "Api") -> None:
    job = api.new_job()
    begun(job)
    with api.sse(job) as stream:
        assert stream.next() is not None
        stream.silence()
        stream.silence()
        progress(job, 2)
        event = stream.next()
        assert event is not None
        assert event[2] == {"step": 2}


@pytest.mark.parametrize(
    ("status", "kind"), [("completed", "completed"), ("failed", "failed"), ("cancelled", "status")]
)
def test_the_row_ends_a_stream_that_redis_forgot(api: "Api", events_url: str, status: str, kind: str) -> None:
    job = api.new_job()
    at = begun(job)
    with api.sse(job) as stream:
        assert stream.next() is not None
        redis.Redis.from_url(events_url).flushdb()
        api.row(job, status, image_url="/x.png", error=None)
        [(last, found, data)] = stream.rest()
    assert (found, data["status"]) == (kind, status)
    assert last.split("-")[0] == at.split("-")[0]
    assert last != at
    with api.sse(job, {"Last-Event-ID": last}) as again:
        assert again.response.status_code == 204


def test_publishing_goes_on_after_a_flush(api: "Api", events_url: str) -> None:
    job = api.new_job()
    begun(job)
    with api.sse(job) as stream:
        assert stream.next() is not None
        redis.Redis.from_url(events_url).flushdb()
        progress(job, 2)
        events.publish(job, "completed", {"status": "completed"})
        assert [data for _, _, data in stream.rest()] == [{"step": 2}, {"status": "completed"}]


def test_who_resumes_after_a_flush_hears_the_rest_and_ids_go_on(api: "Api", events_url: str) -> None:
    job = api.new_job()
    begun(job)
    before = progress(job, 1)
    redis.Redis.from_url(events_url).flushdb()
    with api.sse(job, {"Last-Event-ID": before}) as stream:
        told = stream.next()
        assert told is not None
        assert told[1:] == ("status", {"job_id": job, "status": "in_progress", "attempt": 1})
    progress(job, 2)
    api.row(job, "completed", image_url="/x.png")
    with api.sse(job, {"Last-Event-ID": told[0]}) as stream:
        rest = stream.rest()
    assert [kind for _, kind, _ in rest] == ["progress", "completed"]
    places = [number(place) for place in (before, told[0], *(place for place, _, _ in rest))]
    assert places == sorted(set(places))


@pytest.mark.parametrize("connected", [True, False])
def test_ids_go_on_where_the_new_redis_has_an_earlier_clock(
    api: "Api", events_url: str, connected: bool
) -> None:
    job = api.new_job()
    client = redis.Redis.from_url(events_url, decode_responses=True)
    future = "99999999999999-0"
    status = {"type": "status", "data": '{"status":"in_progress","attempt":1}'}
    client.xadd(events.stream_key(job), status, id=future)
    with api.sse(job) as stream:
        told = [stream.next()]
        assert told[0] is not None
        if not connected:
            stream.response.close()
        client.flushdb()
        progress(job, 2)
        events.publish(job, "completed", {"status": "completed", "attempt": 1})
        if connected:
            told += stream.rest()
    if not connected:
        with api.sse(job, {"Last-Event-ID": future}) as again:
            told += again.rest()
    assert [event[1] for event in told if event] == ["status", "progress", "completed"]
    places = [number(event[0]) for event in told if event]
    assert places == sorted(set(places))
    api.row(job, "completed")
    with api.sse(job, {"Last-Event-ID": told[-1][0] if told[-1] else ""}) as last:
        assert last.response.status_code == 204


def test_a_beginning_that_redis_forgot_is_told_from_the_row(api: "Api") -> None:
    job = api.new_job()
    later = progress(job, 7)  # all that was published since
    with api.sse(job) as stream:
        first, second = stream.next(), stream.next()
    assert first is not None
    assert first[1:] == ("status", {"job_id": job, "status": "in_progress", "attempt": 1})
    assert second == (later, "progress", {"step": 7})


def test_a_change_of_status_that_was_not_published_is_told_in_the_silence(api: "Api") -> None:
    job = api.new_job()
    first = begun(job)
    with api.sse(job) as stream:
        assert stream.next() is not None
        api.row(job, "pending", attempt=2)
        event = stream.next()
        assert event is not None
        assert event[1:] == ("status", {"job_id": job, "status": "pending", "attempt": 2})
        assert number(event[0]) > number(first)
        second = progress(job, 1)
        assert stream.next() == (second, "progress", {"step": 1})
    with api.sse(job, {"Last-Event-ID": event[0]}) as stream:
        assert stream.next() == (second, "progress", {"step": 1})


def test_without_a_stream_the_row_speaks_first(api: "Api") -> None:
    job = api.new_job("pending")
    with api.sse(job) as stream:
        first = stream.next()
        assert first is not None
        assert first[1:] == ("status", {"job_id": job, "status": "pending", "attempt": 1})
        second = progress(job, 1)
        assert stream.next() == (second, "progress", {"step": 1})
    with api.sse(job, {"Last-Event-ID": first[0]}) as stream:
        assert stream.next() == (second, "progress", {"step": 1})


def test_a_finished_job_without_a_stream(api: "Api") -> None:
    job = api.new_job("completed")
    with api.sse(job) as stream:
        [(_, kind, data)] = stream.rest()
    assert (kind, data["job_id"], data["status"]) == ("completed", job, "completed")


def test_who_knows_the_end_is_sent_away(api: "Api") -> None:
    job = api.new_job()
    before = progress(job, 1)
    end = events.publish(job, "completed", {"status": "completed"})
    api.row(job, "completed")
    with api.sse(job, {"Last-Event-ID": before}) as stream:
        assert [event[0] for event in stream.rest()] == [end]
    with api.sse(job, {"Last-Event-ID": str(end)}) as stream:
        assert stream.response.status_code == 204
        assert stream.response.headers["x-request-id"]


def test_a_row_that_goes_away_ends_the_stream(api: "Api") -> None:
    job = api.new_job()
    begun(job)
    with api.sse(job) as stream:
        assert stream.next() is not None
        httpx.delete(f"{api.url}/rows/{job}").raise_for_status()
        assert stream.rest() == []


def test_listeners_take_no_thread_and_leave_no_waiter(api: "Api") -> None:
    job = api.new_job()
    begun(job)
    for _ in range(2):
        streams = [api.sse(job) for _ in range(20)]
        opened = [stream.__enter__() for stream in streams]
        assert all(stream.next() for stream in opened)
        assert api.state()["followers"] == 20  # answered although Flask has two threads
        for stream in streams:
            stream.__exit__(None, None, None)
        with api.sse(job) as last:
            last.next()
            last.silence()
            assert api.state()["followers"] == 1


def test_a_garbled_position_means_the_start(api: "Api") -> None:
    job = api.new_job()
    first = begun(job)
    for garbled in ("nonsense", "99999999999999999999999", "-5", "1-1-1"):
        with api.sse(job, {"Last-Event-ID": garbled}) as stream:
            stream.begins(job)
            event = stream.next()
            assert event is not None
            assert event[0] == first
