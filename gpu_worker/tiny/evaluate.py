"""Does the model draw what it is asked? `python -m gpu_worker.tiny.evaluate [--model DIR] [--sheet FILE]`.

Every prompt names combinations of colour, shape and background that training never showed.
"""

import argparse
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gpu_worker.tiny.check import Sight, colour_name, ground_rgb, see, see_two
from gpu_worker.tiny.export import PACKAGED
from gpu_worker.tiny.parts import Pipeline, StableDiffusionPipeline, sampler_class
from gpu_worker.tiny.render import Picture
from gpu_worker.tiny.world import PLACES, RELATIONS, SIZES, Triple, held_out_triples

SAMPLERS = {
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}
_ASIDE = 0.1  # how far from the middle, as a fraction of the side, counts as "at the left"


@dataclass(frozen=True)
class Question:
    """A prompt and what must be seen: a background, and (colour, shape) of one or two objects."""

    prompt: str
    background: str
    things: tuple[tuple[str, str], ...]
    place: str | None = None
    relation: str | None = None


@dataclass(frozen=True)
class Answer:
    """What was right; with two objects, right for both. `place` is None where none was asked."""

    background: bool
    colour: bool
    shape: bool
    place: bool | None


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def single_questions(count: int = 60) -> list[Question]:
    """One object, each in a held-out combination, said plainly."""
    return [
        Question(f"{_a(colour)} {shape} on {_a(ground)} background", ground, ((colour, shape),))
        for colour, shape, ground in held_out_triples()[:count]
    ]


def sized_questions() -> list[Question]:
    """One held-out object of a given size."""
    sizes = tuple(SIZES)
    return [
        Question(f"a {sizes[i % 3]} {colour} {shape} on {_a(ground)} background", ground, ((colour, shape),))
        for i, (colour, shape, ground) in enumerate(held_out_triples()[:30])
    ]


def placed_questions() -> list[Question]:
    """One held-out object at a given place."""
    places = tuple(PLACES)
    return [
        Question(
            f"{_a(colour)} {shape} at the {(place := places[i % len(places)])} on {_a(ground)} background",
            ground,
            ((colour, shape),),
            place=place,
        )
        for i, (colour, shape, ground) in enumerate(held_out_triples()[:32])
    ]


def pair_questions() -> list[Question]:
    """Two objects, both held out with the background they share."""
    by_ground: dict[str, list[Triple]] = {}
    for triple in held_out_triples():
        by_ground.setdefault(triple[2], []).append(triple)
    relations = tuple(RELATIONS)
    questions: list[Question] = []
    for ground, triples in sorted(by_ground.items()):
        for (colour, shape, _), (other, kind, _) in pairwise(triples):
            if colour == other:
                continue
            relation = relations[len(questions) % len(relations)]
            words = {"left of": "to the left of", "right of": "to the right of"}.get(relation, relation)
            prompt = f"{_a(colour)} {shape} {words} {_a(other)} {kind} on {_a(ground)} background"
            questions.append(Question(prompt, ground, ((colour, shape), (other, kind)), relation=relation))
    return questions


def _in_place(sight: Sight, place: str) -> bool:
    """Whether an object's centre lies to the side(s) it should."""
    x, y = PLACES[place]
    wanted = ((x, sight.x), (y, sight.y))
    return all(
        abs(got - 0.5) < _ASIDE if want == 0.5 else abs(got - want) < abs(want - 0.5) - _ASIDE / 2
        for want, got in wanted
    )


def answer(question: Question, picture: Picture) -> Answer:
    """Judge one picture."""
    ground = colour_name(ground_rgb(picture)) == question.background
    if question.relation is None:
        sights: Sequence[Sight | None] = (see(picture),)
    else:
        places = RELATIONS[question.relation]
        both = see_two(picture, axis=1 if "left" in places else 0)
        sights = both if places[0] in ("left", "top") else both[::-1]
    pairs = list(zip(sights, question.things, strict=True))
    first = sights[0]
    return Answer(
        background=ground,
        colour=all(s is not None and s.colour == colour for s, (colour, _) in pairs),
        shape=all(s is not None and s.shape == shape for s, (_, shape) in pairs),
        place=None if question.place is None else first is not None and _in_place(first, question.place),
    )


def load(folder: Path, sampler: str | None = None) -> Pipeline:
    """The stock pipeline, fp32, with the folder's own or a named sampler."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    if sampler is not None:
        pipe.scheduler = sampler_class(SAMPLERS[sampler]).from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def paint(
    pipe: Pipeline,
    prompts: Sequence[str],
    *,
    steps: int = 12,
    guidance: float = 4.0,
    side: int = 128,
    batch: int = 12,
) -> list[Picture]:
    """A picture (side, side, 3) of each prompt; prompt i has seed i, whatever its neighbours."""
    pictures: list[Picture] = []
    for start in range(0, len(prompts), batch):
        part = list(prompts[start : start + batch])
        seeds = [torch.Generator().manual_seed(start + i) for i in range(len(part))]
        images = pipe(
            part,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=seeds,
            height=side,
            width=side,
            output_type="np",
        ).images
        pictures += list(np.rint(images * 255).astype(np.uint8))
    return pictures


def _percent(values: Iterable[bool | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{100 * sum(known) / len(known):4.0f}%" if known else "    -"


def sheet(pictures: Sequence[Picture], columns: int = 10) -> Image.Image:
    """Pictures in rows, for looking at."""
    blank = np.full_like(pictures[0], 128)
    padded = [*pictures, *[blank] * (-len(pictures) % columns)]
    rows = [np.concatenate(padded[i : i + columns], axis=1) for i in range(0, len(padded), columns)]
    return Image.fromarray(np.concatenate(rows, axis=0))


def evaluate(pipe: Pipeline, steps: int, guidance: float, side: int, out: Path | None) -> None:
    """Print the table of one sampler; write a sheet of each kind of prompt next to `out` where given."""
    kinds = {
        "single": single_questions(),
        "size": sized_questions(),
        "place": placed_questions(),
        "pair": pair_questions(),
    }
    print("prompts       n  background  colour  shape  place   s/picture")
    for kind, questions in kinds.items():
        began = time.perf_counter()
        prompts = [q.prompt for q in questions]
        pictures = paint(pipe, prompts, steps=steps, guidance=guidance, side=side)
        seconds = (time.perf_counter() - began) / len(prompts)
        answers = [answer(q, p) for q, p in zip(questions, pictures, strict=True)]
        cells = [_percent(getattr(a, field) for a in answers) for field in Answer.__dataclass_fields__]
        print(f"{kind:8} {len(prompts):6}      {'   '.join(cells)}  {seconds:8.2f}")
        if out is not None:
            sheet(pictures).save(out.with_name(f"{out.stem}_{kind}.png"))


def main() -> None:
    """Evaluate a folder with one sampler."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=PACKAGED)
    parser.add_argument("--sampler", choices=SAMPLERS, default="dpmpp_2m")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--side", type=int, default=128, help="pixels")
    parser.add_argument("--sheet", type=Path, help="write sheets of the pictures: FILE_single.png, ...")
    args = parser.parse_args()
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    pipe = load(args.model, args.sampler)
    evaluate(pipe, args.steps, args.guidance, args.side, args.sheet)


if __name__ == "__main__":
    main()
