"""The order of work on a graph, whatever the work does to the list that it came from."""

from __future__ import annotations

from sandbox.engine import schedule


def test_work_may_take_nodes_out_of_the_list_it_came_from() -> None:
    nodes = ["network", "cluster", "pod"]
    done: list[str] = []

    def work(node: str) -> bool:
        nodes.remove(node)
        done.append(node)
        return True

    schedule.run(nodes, {1: {0}, 2: {1}}, work, parallel=2)
    assert done == ["network", "cluster", "pod"]
