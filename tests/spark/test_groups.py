"""Components, paths and names of groups, against networkx and plain loops."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import networkx as nx
import pytest
from pyspark.sql import DataFrame, SparkSession

from dedup import groups

Edges = list[tuple[str, str]]


def frame(spark: SparkSession, rows: list[tuple[str, str]], *columns: str) -> DataFrame:
    return spark.createDataFrame(rows, ", ".join(f"{name} string" for name in columns))


def found(spark: SparkSession, edges: Edges, scratch: Path, limit: int) -> dict[str, str]:
    rows = groups.components(frame(spark, edges, "l", "r"), str(scratch / "scratch"), limit).collect()
    assert len({row["node"] for row in rows}) == len(rows)
    return {row["node"]: row["component"] for row in rows}


def expected(edges: Edges) -> dict[str, str]:
    graph = nx.Graph(edges)
    return {node: min(component) for component in nx.connected_components(graph) for node in component}


def sparse(seed: int, nodes: int, edges: int) -> Edges:
    chance = random.Random(seed)
    return [(f"{chance.randrange(nodes):05d}", f"{chance.randrange(nodes):05d}") for _ in range(edges)]


def path(nodes: int) -> Edges:
    names = [f"{number:05d}" for number in range(nodes)]
    random.Random(3).shuffle(names)
    return list(pairwise(names))


GRAPHS = {
    "nothing": [],
    "a loop": [("a", "a")],
    "there and back": [("a", "b"), ("b", "a"), ("a", "b"), ("c", "c"), ("c", "d")],
    "few edges": sparse(1, 400, 250),
    "many edges": sparse(2, 300, 900),
    "a path": path(3000),
    "a star": [("middle", f"{number:05d}") for number in range(2000)],
    "small groups": [
        (f"{number:04d} {a}", f"{number:04d} {b}") for number in range(300) for a, b in ("ab", "bc", "cb")
    ],
}


@pytest.mark.parametrize("name", GRAPHS)
def test_components_are_those_of_networkx(spark: SparkSession, tmp_path: Path, name: str) -> None:
    assert found(spark, GRAPHS[name], tmp_path, groups.LIMIT) == expected(GRAPHS[name])
    assert not list(tmp_path.glob("scratch/edges-*"))


@pytest.mark.parametrize(("name", "limit"), [("few edges", 20), ("many edges", 0), ("a path", 300), ("a star", 100)])
def test_components_are_the_same_when_rounds_make_the_graph_small(
    spark: SparkSession, tmp_path: Path, name: str, limit: int
) -> None:
    assert found(spark, GRAPHS[name], tmp_path, limit) == expected(GRAPHS[name])
    assert list(tmp_path.glob("scratch/edges-*"))


def test_a_loop_alone_is_a_component_after_rounds_too(spark: SparkSession, tmp_path: Path) -> None:
    assert found(spark, [("a", "a"), ("c", "b")], tmp_path, 0) == {"a": "a", "b": "b", "c": "b"}


def test_a_long_path_is_short_after_few_rounds(spark: SparkSession, tmp_path: Path) -> None:
    found(spark, GRAPHS["a path"], tmp_path, 300)
    assert len(list(tmp_path.glob("scratch/edges-*"))) <= 6


def plain_link(edges: Edges, root: str, node: str) -> list[str]:
    """Breadth first, neighbours by name: the way to a node is that by which it was seen first."""
    graph = nx.Graph(edges)
    before: dict[str, str | None] = {root: None}
    waiting = [root]
    for one in waiting:
        for other in sorted(graph[one]):
            if other not in before:
                before[other] = one
                waiting.append(other)
    way: list[str] = []
    at: str | None = node
    while at is not None:
        way.insert(0, at)
        at = before[at]
    return way


def linked(spark: SparkSession, edges: Edges, ends: Edges, scratch: Path, limit: int) -> dict[str, list[str]]:
    rows = groups.links(frame(spark, edges, "l", "r"), frame(spark, ends, "node", "root"), str(scratch), limit)
    return {row["node"]: row["link"] for row in rows.collect()}


@pytest.mark.parametrize("name", ["few edges", "many edges"])
def test_links_are_the_first_of_the_shortest_paths(spark: SparkSession, tmp_path: Path, name: str) -> None:
    edges = [edge for edge in GRAPHS[name] if edge[0] != edge[1]]
    ends = []
    for component in sorted(map(sorted, nx.connected_components(nx.Graph(edges)))):
        root = random.Random(len(component)).choice(component)
        ends += [(node, root) for node in component if node != root and int(node) % 3]
    links = linked(spark, edges, ends, tmp_path / "scratch", groups.LIMIT)
    expected = {node: plain_link(edges, root, node) for node, root in ends}
    assert links == {node: link for node, link in expected.items() if len(link) <= groups.LONGEST}
    for node, root in ends:
        assert len(expected[node]) == 1 + nx.shortest_path_length(nx.Graph(edges), root, node)


def test_links_of_many_edges_or_of_many_steps_are_not_given(spark: SparkSession, tmp_path: Path) -> None:
    names = [f"{number:03d}" for number in range(40)]
    edges = list(pairwise(names))
    ends = [(node, "000") for node in names[1:]]
    links = linked(spark, edges, ends, tmp_path / "short", groups.LIMIT)
    assert sorted(links) == names[1 : groups.LONGEST]
    assert links["031"] == names[:32]
    assert linked(spark, edges, ends, tmp_path / "none", 38) == {}
    assert linked(spark, [], [], tmp_path / "empty", groups.LIMIT) == {}


def plain_identified(contents: Edges, previous: Edges) -> tuple[dict[str, str], set[tuple[str, str]]]:
    claims: dict[str, list[tuple[int, str]]] = {}
    for group in {group for _, group in previous}:
        old = {sha256 for sha256, name in previous if name == group}
        new = {component: old & {s for s, c in contents if c == component} for _, component in contents}
        new = {component: shared for component, shared in new.items() if shared}
        if new:
            claimant = min(new, key=lambda one: (group not in new[one], -len(new[one]), one))
            claims.setdefault(claimant, []).append((-len(new[claimant]), group))
    taken = {component: min(claimed)[1] for component, claimed in claims.items()}
    merges = {(taken[one], group) for one, claimed in claims.items() for _, group in claimed if group != taken[one]}
    return taken, merges


@pytest.mark.parametrize("seed", range(3))
def test_ids_go_on_as_a_plain_loop_says(spark: SparkSession, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    names = [f"{number:02d}" for number in range(60)]

    def drawn() -> Edges:
        parts: dict[int, list[str]] = {}
        for name in names:
            parts.setdefault(chance.randrange(20), []).append(name)
        return [(name, min(part)) for part in parts.values() for name in part if chance.random() < 0.9]

    previous, contents = drawn(), drawn()
    ids, merges = groups.identified(
        frame(spark, contents + contents[:9], "sha256", "component"),
        frame(spark, previous, "sha256", "group_id"),
        str(tmp_path / "scratch"),
    )
    taken, merged = plain_identified(contents, previous)
    assert {row["component"]: row["group_id"] for row in ids.collect()} == taken
    assert {(row["group_id"], row["merged"]) for row in merges.collect()} == merged
    assert merged


def test_an_id_goes_to_the_group_that_holds_its_content(spark: SparkSession, tmp_path: Path) -> None:
    previous = [(one, "a") for one in "abcd"] + [(one, "m") for one in "mn"]
    contents = [("a", "a"), ("x", "a"), ("b", "b"), ("c", "b"), ("d", "b"), ("m", "b"), ("n", "b")]
    ids, merges = groups.identified(
        frame(spark, contents, "sha256", "component"), frame(spark, previous, "sha256", "group_id"), str(tmp_path / "s")
    )
    assert {row["component"]: row["group_id"] for row in ids.collect()} == {"a": "a", "b": "m"}
    assert merges.collect() == []
