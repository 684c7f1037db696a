"""Which tests follow each other on one worker, so that no more stacks run at once than a machine holds."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

_STACKS = "tests/e2e/"
# About half of the time of all stacks. The others are the second lane.
_FIRST_LANE = frozenset({"test_both_targets.py", "test_production.py"})


class Lanes(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Keeps the tests of a file on one worker, and those that bring whole stacks up on two.

    A stack has 5 GiB and mostly waits: a third worker uses the time with everything else.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        if not file.startswith(_STACKS):
            return file
        return "first stacks" if file.removeprefix(_STACKS) in _FIRST_LANE else "second stacks"
