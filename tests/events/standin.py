"""A small Flask application that stands for the API: rows in memory, one caller, and what the tests ask."""

import os
import threading
from uuid import uuid4

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from pingvas.asgi import build
from pingvas.web import problem
from pingvas.web.auth import CALLER
from pingvas.web.limits import INTERNAL

flask = Flask(__name__)
problem.init_app(flask)
flask.config["MAX_CONTENT_LENGTH"] = 1_048_576
CALLERS_ID = "019a0000-0000-7000-8000-00000000000a"
rows: dict[str, dict[str, object]] = {}
asked = {"internal": 0, "direct": 0}


@flask.get("/api/v1/jobs/<job_id>")
def job(job_id: str) -> ResponseReturnValue:
    asked["internal" if request.environ["asgi.scope"].get(INTERNAL) else "direct"] += 1
    headers = {"X-Request-Id": request.headers.get("X-Request-Id", str(uuid4())), "ETag": '"x"'}
    known = request.headers.get("Authorization") == "Bearer good" or request.cookies.get("session") == "good"
    if not known:
        return jsonify(code="UNAUTHORIZED"), 401, headers | {"WWW-Authenticate": "Bearer"}
    request.environ["asgi.scope"][CALLER] = CALLERS_ID
    if job_id not in rows:
        return jsonify(code="NOT_FOUND"), 404, headers
    return jsonify(rows[job_id]), 200, headers


@flask.put("/rows/<job_id>")
def put(job_id: str) -> ResponseReturnValue:
    rows[job_id] = request.get_json()
    return jsonify(rows[job_id])


@flask.delete("/rows/<job_id>")
def delete(job_id: str) -> ResponseReturnValue:
    rows.pop(job_id)
    return "", 204


@flask.get("/state")
def state() -> ResponseReturnValue:
    return jsonify(followers=front.hub.followers, held=front.held, threads=threading.active_count(), **asked)


@flask.post("/echo")
def echo() -> ResponseReturnValue:
    return request.get_data(), {"X-Length": str(request.content_length)}


@flask.get("/big/<int:size>")
def big(size: int) -> ResponseReturnValue:
    return iter([b"x" * 1_000] * (size // 1_000)), {"Content-Length": str(size)}


@flask.get("/seen")
def seen() -> ResponseReturnValue:
    return jsonify(
        path=request.path, query=request.query_string.decode("latin-1"), headers=dict(request.headers)
    )


front = build(
    flask,
    keep_alive=float(os.environ.get("KEEP_ALIVE", "15")),
    look_every=2,
    threads=2,
    patience=float(os.environ.get("PATIENCE", "30")),
)
