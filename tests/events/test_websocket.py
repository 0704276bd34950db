"""Events over WebSocket: the same ones, and who is let in."""

import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from pingvas import events, ids

if TYPE_CHECKING:
    from tests.events.conftest import Api

pytestmark = pytest.mark.usefixtures("events_url")


def open_socket(api: "Api", path: str, **options: Any) -> ClientConnection:
    socket: ClientConnection = connect(api.url.replace("http://", "ws://") + path, **options)
    return socket


def close_code(api: "Api", path: str, **options: Any) -> int:
    with open_socket(api, path, **options) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_the_events_of_a_job(api: "Api") -> None:
    job = api.new_job()
    first = events.publish(job, "status", {"status": "in_progress"})
    with open_socket(api, f"/ws/jobs/{job}", additional_headers=api.auth) as socket:
        assert json.loads(socket.recv())["data"]["status"] == "pending"
        assert json.loads(socket.recv()) == {
            "id": first,
            "type": "status",
            "data": {"status": "in_progress"},
        }
        socket.send("what a client says is not listened to")
        events.publish(job, "progress", {"step": 1})
        last = events.publish(job, "completed", {"status": "completed"})
        assert [json.loads(frame)["type"] for frame in socket] == ["progress", "completed"]
        assert socket.close_code == 1000
    query = f"?access_token=good&last_event_id={first}"
    with open_socket(api, f"/ws/jobs/{job}{query}") as socket:
        assert [json.loads(frame)["type"] for frame in socket] == ["progress", "completed"]
    api.row(job, "completed")
    assert close_code(api, f"/ws/jobs/{job}?access_token=good&last_event_id={last}") == 1000


def test_refusals(api: "Api") -> None:
    job = api.new_job()
    assert close_code(api, f"/ws/jobs/{job}") == 4401
    assert close_code(api, f"/ws/jobs/{job}?access_token=bad") == 4401
    assert close_code(api, f"/ws/jobs/{ids.new()}", additional_headers=api.auth) == 4404
    assert close_code(api, "/ws/jobs/nonsense", additional_headers=api.auth) == 4404
    with pytest.raises(InvalidStatus):
        open_socket(api, "/ws/elsewhere")


def test_a_cookie_counts_only_from_our_own_pages(api: "Api") -> None:
    job = api.new_job()
    path, cookie = f"/ws/jobs/{job}", {"Cookie": "session=good"}
    events.publish(job, "status", {"status": "cancelled"})
    for origin in (api.url, None):
        with open_socket(api, path, additional_headers=cookie, origin=origin) as socket:
            assert [json.loads(frame)["data"]["status"] for frame in socket] == ["pending", "cancelled"]
    for origin in ("https://evil.example", "null"):
        assert close_code(api, path, additional_headers=cookie, origin=origin) == 4401
        assert close_code(api, f"{path}?access_token=bad", additional_headers=cookie, origin=origin) == 4401


def test_who_hangs_up_is_forgotten(api: "Api") -> None:
    job = api.new_job()
    events.publish(job, "progress", {"step": 1})
    with open_socket(api, f"/ws/jobs/{job}", additional_headers=api.auth) as socket:
        socket.recv()
    with api.sse(job) as stream:
        stream.next()
        stream.silence()
        assert api.state()["followers"] == 1
