"""Learns a small byte-level BPE vocabulary from a text, for the stand-in model's tokenizer."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise


def byte_alphabet() -> dict[int, str]:
    """Return the printable character that byte-level BPE writes for each byte (as GPT-2 defined it)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + index) for index, byte in enumerate(others)
    }


def learn(text: str, merges: int) -> list[tuple[str, str]]:
    """Return the merges that join, each time, the most frequent pair of neighbours.

    Args:
        text: what to learn from.
        merges: how many to learn at most; fewer where no pair occurs twice.
    """
    alphabet = byte_alphabet()
    words = Counter(
        tuple(alphabet[byte] for byte in word.encode()) for word in re.findall(r" ?\w+| ?[^\w\s]+|\s+", text)
    )
    learned: list[tuple[str, str]] = []
    while len(learned) < merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        # Ties go to the first in order of code points, so that the same text gives the same vocabulary.
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        learned.append(best)
        joined: Counter[tuple[str, ...]] = Counter()
        for word, count in words.items():
            joined[_join(word, best)] += count
        words = joined
    return learned


def _join(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    parts: list[str] = []
    index = 0
    while index < len(word):
        if word[index : index + 2] == pair:
            parts.append(word[index] + word[index + 1])
            index += 2
        else:
            parts.append(word[index])
            index += 1
    return tuple(parts)
