"""The small world the model draws: colours, shapes, scenes, and which combinations are never trained on.

A scene is plain data. `render.draw` makes a picture of it and `captions.caption` says it in words.
All lengths are fractions of the picture's side; (0, 0) is the top left corner.
"""

import random
from dataclasses import dataclass

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (220, 38, 38),
    "orange": (249, 130, 20),
    "yellow": (250, 220, 40),
    "green": (30, 150, 60),
    "cyan": (60, 205, 225),
    "blue": (35, 75, 215),
    "purple": (125, 45, 170),
    "pink": (250, 150, 195),
    "black": (18, 18, 18),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "ring", "cross")

# Widths of the box around a shape. A single object without a size word is DEFAULT wide.
SIZES: dict[str, float] = {"small": 0.40, "medium": 0.56, "large": 0.80}
DEFAULT_SIZE = 0.64
PAIR_SIZE = 0.42
PLACED_SIZE = 0.42
PLACES: dict[str, tuple[float, float]] = {
    "left": (0.27, 0.5),
    "right": (0.73, 0.5),
    "top": (0.5, 0.27),
    "bottom": (0.5, 0.73),
    "top left": (0.27, 0.27),
    "top right": (0.73, 0.27),
    "bottom left": (0.27, 0.73),
    "bottom right": (0.73, 0.73),
}
RELATIONS: dict[str, tuple[str, str]] = {
    "and": ("left", "right"),
    "left of": ("left", "right"),
    "right of": ("right", "left"),
    "above": ("top", "bottom"),
    "below": ("bottom", "top"),
}

Triple = tuple[str, str, str]
HELD_OUT_COUNT = 60


@dataclass(frozen=True)
class Thing:
    """One object: its centre (x, y) and the width of its box, as fractions of the side."""

    colour: str
    shape: str
    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Scene:
    """A picture in words' terms. `relation` joins two things; `place` and `size` belong to a single one."""

    background: str
    things: tuple[Thing, ...]
    size: str | None = None
    place: str | None = None
    relation: str | None = None


def all_triples() -> list[Triple]:
    """Every (colour, shape, background) in which the object can be seen."""
    return [(c, s, b) for c in COLOURS for s in SHAPES for b in COLOURS if c != b]


def held_out_triples() -> list[Triple]:
    """The fixed (colour, shape, background) combinations that training never shows, in a fixed order.

    Spread evenly over the shapes, so that every shape is judged by about as many prompts.
    """
    rng = random.Random(20_240)
    by_shape = {shape: [t for t in all_triples() if t[1] == shape] for shape in SHAPES}
    for triples in by_shape.values():
        rng.shuffle(triples)
    return [by_shape[SHAPES[i % len(SHAPES)]][i // len(SHAPES)] for i in range(HELD_OUT_COUNT)]


HELD_OUT: frozenset[Triple] = frozenset(held_out_triples())


def triples_of(scene: Scene) -> list[Triple]:
    """The (colour, shape, background) combinations a scene shows."""
    return [(t.colour, t.shape, scene.background) for t in scene.things]


def _jittered(rng: random.Random, colour: str, shape: str, at: tuple[float, float], width: float) -> Thing:
    """A thing about there and about that wide: the model learns a little slack, the eye sees none."""
    return Thing(
        colour,
        shape,
        at[0] + rng.uniform(-0.025, 0.025),
        at[1] + rng.uniform(-0.025, 0.025),
        width * rng.uniform(0.95, 1.05),
    )


def _other(rng: random.Random, *taken: str) -> str:
    return rng.choice([c for c in COLOURS if c not in taken])


def _single(rng: random.Random, background: str) -> Scene:
    colour, shape = _other(rng, background), rng.choice(SHAPES)
    kind = rng.random()
    if kind < 0.45:
        return Scene(background, (_jittered(rng, colour, shape, (0.5, 0.5), DEFAULT_SIZE),))
    if kind < 0.75:
        size = rng.choice(("large", "large", "medium", "small"))
        return Scene(background, (_jittered(rng, colour, shape, (0.5, 0.5), SIZES[size]),), size=size)
    place = rng.choice(tuple(PLACES))
    return Scene(background, (_jittered(rng, colour, shape, PLACES[place], PLACED_SIZE),), place=place)


def _pair(rng: random.Random, background: str) -> Scene:
    relation = rng.choice(("and", "and", "and", *RELATIONS))
    first, second = (PLACES[p] for p in RELATIONS[relation])
    colour = _other(rng, background)
    other = _other(rng, background, colour)
    things = (
        _jittered(rng, colour, rng.choice(SHAPES), first, PAIR_SIZE),
        _jittered(rng, other, rng.choice(SHAPES), second, PAIR_SIZE),
    )
    return Scene(background, things, relation=relation)


def _twins(rng: random.Random, background: str) -> Scene:
    colour, shape = _other(rng, background), rng.choice(SHAPES)
    width = PAIR_SIZE * rng.uniform(0.95, 1.05)
    left, right = PLACES["left"], PLACES["right"]
    return Scene(
        background,
        (Thing(colour, shape, *left, width), Thing(colour, shape, *right, width)),
        relation="two",
    )


def random_scene(rng: random.Random, *, singles: float = 0.72, twins: float = 0.06) -> Scene:
    """A scene: `singles` of one thing, `twins` of two equal ones, else pairs; none held out."""
    while True:
        background = rng.choice(tuple(COLOURS))
        kind = rng.random()
        if kind < singles:
            scene = _single(rng, background)
        elif kind < singles + twins:
            scene = _twins(rng, background)
        else:
            scene = _pair(rng, background)
        if HELD_OUT.isdisjoint(triples_of(scene)):
            return scene


def plain_scene(triple: Triple) -> Scene:
    """One object of the default size in the middle, without slack."""
    colour, shape, background = triple
    return Scene(background, (Thing(colour, shape, 0.5, 0.5, DEFAULT_SIZE),))
