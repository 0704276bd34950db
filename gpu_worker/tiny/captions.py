"""Says scenes in many ways, and lists every word it may use."""

import random
from collections.abc import Sequence

from gpu_worker.tiny.world import COLOURS, SHAPES, Scene, Thing

SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("disc", "disk", "ball", "dot"),
    "square": ("box", "block"),
    "triangle": ("pyramid",),
    "star": ("stars",),
    "heart": ("hearts",),
    "diamond": ("rhombus",),
    "ring": ("donut", "hoop"),
    "cross": ("plus",),
}
PLURALS: dict[str, str] = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}
COLOUR_WORDS: dict[str, tuple[str, ...]] = {"purple": ("violet",), "cyan": ("turquoise",)}
SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "small": ("small", "small", "little", "tiny"),
    "medium": ("medium", "medium sized"),
    "large": ("large", "big", "big", "huge"),
}
RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "and": ("and", "and", "next to", "beside"),
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under"),
}
_OPENINGS = (
    *("a picture of", "a photo of", "an image of", "a drawing of", "a painting of", "an illustration of"),
    *("picture of", "photo of", "image of", "drawing of", "draw", "show me", "please draw", "there is"),
)
_STYLES = (
    *("high quality", "detailed", "best quality", "masterpiece", "simple", "flat", "minimalist", "beautiful"),
    *("clean", "sharp", "4k", "8k", "digital art", "vector art", "flat design", "icon", "logo", "studio"),
    *("bright", "colorful", "artistic", "in the style of art", "abstract", "modern", "poster"),
)
_EXTRA_WORDS = (
    *("one", "two", "single", "only", "with", "its", "it", "is", "has", "which", "that", "this", "my", "our"),
    *("here", "very", "nice", "cute", "pretty", "lovely", "cool", "great", "amazing", "shiny", "glossy"),
    *("middle", "center", "centre", "corner", "side", "upper", "lower", "color", "colour", "colored"),
    *("coloured", "shape", "shaped", "object", "figure", "scene", "plain", "solid", "empty", "backdrop"),
    *("ground", "against", "front", "cat", "dog", "house", "tree", "sun", "sky", "sea", "man", "woman"),
    *("night", "day", "light", "dark", "portrait", "landscape", "render", "3d", "watercolor", "oil", "pixel"),
    *("sunset", "mountain", "forest", "city", "robot", "dragon", "car", "flower", "anime", "realistic"),
)


def vocabulary() -> list[str]:
    """Every word a caption may hold, in a fixed order, each once."""
    phrases: list[str] = [*COLOURS, *SHAPES, *PLURALS.values()]
    for table in (SHAPE_WORDS, COLOUR_WORDS, SIZE_WORDS, RELATION_WORDS):
        for words in table.values():
            phrases += words
    phrases += [*_OPENINGS, *_STYLES, *_EXTRA_WORDS]
    phrases += ["a an the on in at of background left right top bottom and , ."]
    return list(dict.fromkeys(word for phrase in phrases for word in phrase.split()))


def _colour_word(rng: random.Random, colour: str) -> str:
    others = COLOUR_WORDS.get(colour, ())
    return rng.choice(others) if others and rng.random() < 0.15 else colour


def _shape_word(rng: random.Random, shape: str) -> str:
    return rng.choice(SHAPE_WORDS[shape]) if rng.random() < 0.06 else shape


def _noun(rng: random.Random, thing: Thing, size: str | None, article: str) -> str:
    words = [_colour_word(rng, thing.colour), _shape_word(rng, thing.shape)]
    if size is not None:
        words.insert(0, rng.choice(SIZE_WORDS[size]))
    if article:
        words.insert(0, article)
    text = " ".join(words)
    return text.replace("a orange", "an orange") if rng.random() < 0.8 else text


def _subject(rng: random.Random, scene: Scene) -> str:
    """What is shown, without the ground."""
    article = rng.choice(("a", "a", "a", "a", "one", "the", ""))
    first = scene.things[0]
    if scene.relation == "two":
        plural = PLURALS[first.shape]
        return f"two {_colour_word(rng, first.colour)} {plural}"
    noun = _noun(rng, first, scene.size, article)
    if scene.relation is not None:
        other = _noun(rng, scene.things[1], None, article)
        return f"{noun} {rng.choice(RELATION_WORDS[scene.relation])} {other}"
    if scene.place is not None:
        return f"{noun} {rng.choice(('at the', 'on the', 'in the', 'at'))} {scene.place}"
    if scene.size is None and rng.random() < 0.08:
        return f"{noun} in the {rng.choice(('middle', 'center', 'centre'))}"
    return noun


def _junk(rng: random.Random) -> str:
    """A word that means nothing, so that the model learns to pass over what it does not know."""
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 8)))


def _padding(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(_STYLES)
    return rng.choice(_EXTRA_WORDS[14:]) if kind < 0.7 else _junk(rng)


def unsaid_ground(scene: Scene) -> str:
    """The ground of a scene whose caption names none: white, or black behind something white."""
    return "black" if any(thing.colour == "white" for thing in scene.things) else "white"


def caption(scene: Scene, rng: random.Random) -> str:
    """One of many ways to say a scene."""
    subject = _subject(rng, scene)
    ground = _colour_word(rng, scene.background)
    article = "an" if ground == "orange" else "a"
    kind = rng.random()
    if scene.background == unsaid_ground(scene) and rng.random() < 0.6:
        text = subject
    elif kind < 0.62:
        text = f"{subject} on {article} {ground} background"
    elif kind < 0.72:
        text = f"{subject} on {ground}"
    elif kind < 0.82:
        text = f"{subject}, {ground} background"
    elif kind < 0.92:
        text = f"{ground} background, {subject}"
    else:
        text = f"on {article} {ground} background {subject}"
    if rng.random() < 0.2:
        text = f"{rng.choice(_OPENINGS)} {text}"
    if rng.random() < 0.2:
        text = f"{text}, " + ", ".join(_padding(rng) for _ in range(rng.randint(1, 3)))
    return text + ("." if rng.random() < 0.05 else "")


def captions(scene: Scene, rng: random.Random, count: int) -> Sequence[str]:
    """The plain way to say a scene is the commonest; the rest is varied."""
    return [caption(scene, rng) for _ in range(count)]
