"""Property values and paths: what goes over the wire comes back, what is secret stays so."""

from __future__ import annotations

import pytest

from sandbox.engine import EngineError, paths, values
from sandbox.engine.values import UNKNOWN, Reference, Secret, Wire

EVERYTHING = {
    "null": None,
    "flag": True,
    "integer": 12345678901,
    "fraction": 2.5,
    "text": "ü",
    "list": [1, [None], {"x": UNKNOWN}],
    "secret": Secret({"deep": [1, "two"]}),
    "unknown": UNKNOWN,
    "reference": Reference("urn:pulumi:s::p::t::n", "id", "1.0"),
    "component": Reference("urn:pulumi:s::p::t::c", None, ""),
}


def test_values_survive_the_wire() -> None:
    wire = Wire(unknowns=True, secrets=True, references=True)
    assert values.equal(values.from_struct(wire.struct(EVERYTHING)), EVERYTHING)


def test_what_the_other_side_does_not_know_is_sent_plain() -> None:
    received = values.from_struct(Wire().struct(EVERYTHING))
    assert "unknown" not in received
    assert received["secret"] == {"deep": [1, "two"]}
    assert received["reference"] == "id"
    assert received["component"] == "urn:pulumi:s::p::t::c"


def test_true_is_not_one() -> None:
    assert not values.equal({"a": True}, {"a": 1})
    assert values.equal([1, {"a": Secret(2.0)}], [1.0, {"a": Secret(2)}])
    assert not values.equal(Secret(1), 1)


def test_secret_marks_follow_the_inputs() -> None:
    inputs = {"plain": 1, "key": Secret("x"), "list": [Secret(1), 2], "map": {"a": Secret(1), "b": 2}}
    outputs = {"plain": 1, "key": "x", "list": [2, 1], "map": {"a": 1, "b": 2}, "more": 3}
    assert values.annotate_secrets(outputs, inputs) == {
        "plain": 1,
        "key": Secret("x"),
        "list": Secret([2, 1]),
        "map": {"a": Secret(1), "b": 2},
        "more": 3,
    }


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("spec.replicas", ("spec", "replicas")),
        ('tags["a.b"][0]', ("tags", "a.b", 0)),
        ("list[*].name", ("list", "*", "name")),
        ("*", ("*",)),
    ],
)
def test_paths(text: str, path: paths.Path) -> None:
    assert paths.parse(text) == path


def test_a_malformed_path_is_said() -> None:
    with pytest.raises(EngineError, match="is not a property path"):
        paths.parse("a[")


def test_reset_takes_what_was_and_removes_what_was_not() -> None:
    old = {"a": 1, "list": [{"v": 1}, {"v": 2}], "deep": {"kept": 1}}
    new = {"a": 2, "b": 3, "list": [{"v": 8}, {"v": 9}], "deep": {"kept": 5, "new": 6}}
    assert paths.reset(("a",), old, new)["a"] == 1
    assert "b" not in paths.reset(("b",), old, new)
    assert paths.reset(("list", "*", "v"), old, new)["list"] == [{"v": 1}, {"v": 2}]
    assert paths.reset(("list", 1, "v"), old, new)["list"] == [{"v": 8}, {"v": 2}]
    assert paths.reset(("deep", "kept"), old, new)["deep"] == {"kept": 1, "new": 6}
    assert paths.contains(("list", "*"), ("list", 3, "v"))
    assert not paths.contains(("list", "*", "v"), ("list", 3))
