"""The small world: what is kept out of training, and whether the checker can be trusted."""

import random
from pathlib import Path

import pytest

from gpu_worker.tiny.captions import caption, vocabulary
from gpu_worker.tiny.check import see, see_two
from gpu_worker.tiny.data import scene_at
from gpu_worker.tiny.evaluate import (
    Question,
    answer,
    pair_questions,
    placed_questions,
    single_questions,
    sized_questions,
)
from gpu_worker.tiny.render import draw
from gpu_worker.tiny.tokenizer import build_tokenizer
from gpu_worker.tiny.world import (
    HELD_OUT,
    HELD_OUT_COUNT,
    SHAPES,
    all_triples,
    held_out_triples,
    plain_scene,
    random_scene,
    triples_of,
)


def test_training_never_shows_a_held_out_combination() -> None:
    seen = {triple for i in range(4_000) for triple in triples_of(scene_at(7, i))}
    assert seen.isdisjoint(HELD_OUT)
    assert len(seen) > 0.9 * (len(all_triples()) - HELD_OUT_COUNT)


def test_held_out_combinations_are_distinct_and_cover_every_shape() -> None:
    assert len(HELD_OUT) == HELD_OUT_COUNT
    assert {shape for _, shape, _ in HELD_OUT} == set(SHAPES)
    assert held_out_triples() == held_out_triples()


@pytest.mark.parametrize(
    "questions", [single_questions(), sized_questions(), placed_questions(), pair_questions()]
)
def test_every_question_is_about_held_out_combinations(questions: list[Question]) -> None:
    for question in questions:
        for colour, shape in question.things:
            assert (colour, shape, question.background) in HELD_OUT


def test_checker_recognises_the_true_pictures_of_all_held_out_combinations() -> None:
    for triple, question in zip(held_out_triples(), single_questions(), strict=True):
        verdict = answer(question, draw(plain_scene(triple)))
        assert (verdict.background, verdict.colour, verdict.shape) == (True, True, True), triple


def test_checker_recognises_random_scenes() -> None:
    rng = random.Random(3)
    for _ in range(120):
        scene = random_scene(rng)
        picture = draw(scene)
        if len(scene.things) == 1:
            found, things = [see(picture)], list(scene.things)
        else:
            axis = 1 if abs(scene.things[0].x - scene.things[1].x) > 0.3 else 0
            found = list(see_two(picture, axis))
            things = sorted(scene.things, key=lambda thing: thing.x if axis else thing.y)
        assert [(s.colour, s.shape) for s in found if s] == [(t.colour, t.shape) for t in things]


def test_checker_denies_a_wrong_picture() -> None:
    (colour, shape, ground), *_ = held_out_triples()
    question = single_questions()[0]
    other = next(s for s in SHAPES if s != shape)
    verdict = answer(question, draw(plain_scene((colour, other, ground))))
    assert (verdict.background, verdict.colour, verdict.shape) == (True, True, False)


def test_every_word_of_a_caption_is_one_token(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    for word in vocabulary():
        if word.isalpha():
            assert len(tokenizer(word).input_ids) == 3, word
    rng = random.Random(0)
    for i in range(200):
        assert len(tokenizer(caption(scene_at(7, i), rng)).input_ids) <= tokenizer.model_max_length


def test_unknown_words_fall_back_to_bytes(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    text = "żółw 😀 qwxz"
    assert str(tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True)).strip() == text
