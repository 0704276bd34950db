"""A CLIP tokenizer of our own: every word of the world one token, anything else byte by byte."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from gpu_worker.tiny.captions import vocabulary

MAX_TOKENS = 48
_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"


def _byte_alphabet() -> list[str]:
    """The 256 printable characters by which byte-level BPE writes bytes (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]


def _merged(pieces: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding of one word: the earliest merge first, until none applies."""
    while True:
        pairs = [(ranks[pair], i) for i, pair in enumerate(pairwise(pieces)) if pair in ranks]
        if not pairs:
            return pieces
        i = min(pairs)[1]
        pieces = [*pieces[:i], pieces[i] + pieces[i + 1], *pieces[i + 2 :]]


def _tables() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges.

    A merge appended later is tried later, so it cannot break a word that is already one token.
    """
    alphabet = _byte_alphabet()
    ranks: dict[tuple[str, str], int] = {}
    for word in vocabulary():
        letters = [*word[:-1], word[-1] + _WORD_END]
        while len(pieces := _merged(letters, ranks)) > 1:
            ranks[(pieces[0], pieces[1])] = len(ranks)
    tokens = [*alphabet, *(c + _WORD_END for c in alphabet), *(a + b for a, b in ranks), _START, _END]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, list(ranks)


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write the tokenizer's files into `folder` and load them the way a stock pipeline does."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab, merges = _tables()
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    pairs: Any = merges  # annotated as texts, taken as pairs
    tokenizer = CLIPTokenizer(
        vocab=vocab,
        merges=pairs,
        model_max_length=MAX_TOKENS,
        pad_token=_END,
        unk_token=_END,
    )
    tokenizer.save_pretrained(folder)
    loaded: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return loaded
