"""The words of the stand-ins, and tokenizers made of them. Standard library only."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, Any

from sandbox.standins import bpe

if TYPE_CHECKING:
    from collections.abc import Sequence

# What the vocabularies are learned from, and so the words the models speak in.
TEXT = """
A ship comes in from the sea and looks for a berth. The harbour is wide, the water is calm, and the wind comes
from the south. The pilot knows the way; the crew makes the lines ready. Slowly the ship turns, and the
engines run back until she lies still at the quay. Now the work begins: the hatches are opened, the cranes
swing over, and box after box goes ashore. Some go by road and some by rail, each to the place that is written
on it. When the holds are empty they are filled again, and the mate counts what comes aboard, because a ship
that is loaded badly will not ride well in heavy weather. At night the lamps burn along the quay, and the
watch walks up and down. In the morning the tide is high, the lines are let go, and the ship leaves the berth
to the next one. Nothing of hers is left behind but a little oil on the water, and that is gone by noon. The
harbour master writes it in his book: the name, the day, the hour, what she brought and what she took away.
There are two harbours on this coast, and the same ship may call at either of them with the same cargo and the
same papers. That is a good thing for the owner, who need not care which one has room today. You can ask me a
question and I will answer with a few words. Hello! Yes, I am here. No, I do not know that. One, two, three,
four, five, six, seven, eight, nine and ten. What is the name of the model? It is a small model, made on this
machine to stand in for a large one. It speaks of ships, of water and of wind, and it does not know what it
says. Thank you, and good day.
"""
_MERGES = 600


def byte_pairs(special: Sequence[str]) -> tuple[dict[str, Any], dict[str, int]]:
    """Return a tokenizer of decoders, and its vocabulary with the special tokens at its end."""
    merges = bpe.learn(TEXT, _MERGES)
    tokens = [*bpe.byte_alphabet().values(), *(left + right for left, right in merges)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    added = {token: len(vocabulary) + index for index, token in enumerate(special)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(index, token) for token, index in added.items()],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": [list(pair) for pair in merges],
        },
    }
    return tokenizer, vocabulary | added


def word_pieces(
    special: Sequence[str], pair: str, *, second_type: int
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return a tokenizer of encoders, which puts its special tokens around one text and between two.

    Args:
        special: the special tokens, in the order of their numbers; one of them has UNK in its name.
        pair: how two texts are put together, with `$A` and `$B` for them; one text is what comes before
            the first special token after `$A`, and that token.
        second_type: the token type of the second text; 0 where the model knows one type only.
    """
    words = sorted(set(re.findall(r"[a-z]+", TEXT.lower())))
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    pieces = [*letters, *(f"##{letter}" for letter in letters), *(word for word in words if len(word) > 1)]
    vocabulary = {token: index for index, token in enumerate((*special, *pieces))}
    parts = pair.split()
    single = parts[: parts.index("$A") + 2]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(vocabulary[token], token) for token in special],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": _template(single, second_type),
            "pair": _template(parts, second_type),
            "special_tokens": {
                token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in special
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": next(token for token in special if "unk" in token.lower()),
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    }
    return tokenizer, vocabulary


def added_token(index: int, token: str) -> dict[str, Any]:
    """Return a special token as tokenizer.json lists it."""
    return {
        "id": index,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _template(parts: Sequence[str], second_type: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    second = parts.index("$B") if "$B" in parts else len(parts)
    for index, part in enumerate(parts):
        type_id = second_type if index >= second else 0
        if part.startswith("$"):
            found.append({"Sequence": {"id": part[1:], "type_id": type_id}})
        else:
            found.append({"SpecialToken": {"id": part, "type_id": type_id}})
    return found
