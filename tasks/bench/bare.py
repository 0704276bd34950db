"""What POST /generate is measured against: a Flask view that only calls `apply_async`, on stock Celery."""

import uuid

from celery import Celery
from flask import Flask, Response

from pingvas import settings

celery = Celery("bare", broker=settings.get().broker_url)
celery.conf.task_ignore_result = True
app = Flask("bare")


@celery.task(name="bare.generate", ignore_result=True)
def _generate(job_id: str) -> None: ...


@app.post("/")
def submit() -> Response:
    _generate.apply_async(args=(str(uuid.uuid4()),), queue="bare")
    return Response(status=202)
