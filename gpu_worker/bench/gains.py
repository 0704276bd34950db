"""What each optional speed-up brings: the same denoiser and decoder, plain and with it, in turns."""

from dataclasses import replace

import torch

from gpu_worker.bench import queues
from gpu_worker.bench.subject import Size, Subject
from gpu_worker.bench.tables import show, spread
from gpu_worker.bench.watch import Watch
from gpu_worker.pipelines import load
from gpu_worker.speed import on_load
from gpu_worker.stepping.twins import twin_of

ROUNDS = 5
ROWS = (2, 16)  # one guided picture, a full step


def report(subject: Subject, size: Size, *, seconds: float, compiled: bool) -> None:
    """Speed over the plain model's of the same round; `seconds` for each figure, `compiled` too or not."""
    plain, *others = variants(subject, compiled).items()
    gains: dict[str, list[list[float]]] = {name: [] for name, _ in others}
    for number in range(ROUNDS):
        base = speeds(plain[1], size, seconds)
        for name, one in others if number % 2 else reversed(others):
            found = speeds(one, size, seconds)
            gains[name].append([speed / own for speed, own in zip(found, base, strict=True)])
    rows = [
        (name, *(spread(column, "x") for column in zip(*found, strict=True))) for name, found in gains.items()
    ]
    width, height = size
    columns = ("", *(f"denoiser, {number} rows" for number in ROWS), "decoder, 1 picture")
    show(f"Gain over the plain model, {subject.source.slug} {width}x{height}", columns, rows)


def variants(subject: Subject, compiled: bool) -> dict[str, Subject]:
    """The plain model first. Each that is not compiled has weights of its own."""
    made: dict[str, Subject] = {}
    for name, channels_last in (("plain", False), ("channels_last", True)):
        config = replace(subject.config, channels_last=channels_last)
        pipe = load(subject.source, subject.placement.dtype)
        on_load(pipe, config, subject.placement)
        pipe.to(subject.placement.device)
        made[name] = replace(subject, config=config, bare=pipe)
        if compiled:
            twin = twin_of(pipe, subject.family, {"fullgraph": False, "dynamic": False})
            made["compiled" if name == "plain" else f"{name}, compiled"] = replace(made[name], bare=twin)
    return made


def speeds(subject: Subject, size: Size, seconds: float) -> list[float]:
    """Rows per second of the denoiser for each of `ROWS`, then pictures per second of the decoder."""
    request = queues.request(subject.source, "gains", size)
    return [*(subject.bare_rate(request, rows, seconds) for rows in ROWS), _decodes(subject, size, seconds)]


@torch.no_grad()
def _decodes(subject: Subject, size: Size, seconds: float) -> float:
    factor = subject.bare.vae_scale_factor
    shape = (1, subject.family.latent_channels(subject.bare), size[1] // factor, size[0] // factor)
    latents = torch.randn(shape, device=subject.placement.device)

    def run(calls: int) -> float:
        watch = Watch(subject.placement, own_thread=True)
        for _ in range(calls):
            subject.family.decode(subject.bare, latents)
        return watch.seconds() / calls

    run(1)
    return 1 / run(max(2, round(seconds / run(1))))
