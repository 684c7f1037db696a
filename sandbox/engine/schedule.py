"""Runs work on the nodes of a graph, in parallel where the graph allows."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Node = TypeVar("Node")


def run(
    nodes: Sequence[Node],
    after: Mapping[int, set[int]],
    work: Callable[[Node], bool],
    *,
    parallel: int,
) -> None:
    """Call `work` on every node, each when all that it comes after is done.

    Args:
        nodes: what to work on, as it is now: the work may take nodes out of the caller's list.
        after: for a node's index, the indexes of the nodes to be done before it.
        work: returns whether it succeeded; what comes after a failure is left out.
        parallel: how many at once.
    """
    nodes = tuple(nodes)
    waiting = {index: set(after.get(index, ())) for index in range(len(nodes))}
    with ThreadPoolExecutor(max(parallel, 1)) as pool:
        running: dict[Future[bool], int] = {}
        while True:
            for index in [index for index, needed in waiting.items() if not needed]:
                del waiting[index]
                running[pool.submit(work, nodes[index])] = index
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                index = running.pop(future)
                if future.result():
                    for needed in waiting.values():
                        needed.discard(index)
