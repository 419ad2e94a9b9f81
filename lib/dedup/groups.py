"""Pairs become groups: connected components, paths within them, and names that go on from run to run.

Rounds of DataFrames make a large graph small; what is left of it is finished by SciPy on the driver. What is written
to a scratch folder on the way can be deleted when the tables made of it are written.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from scipy.sparse import csgraph, csr_array

from dedup import storage, stores

LIMIT = 1_000_000
"""How many edges the driver holds at most; with names of 64 letters it needs about 800 MB for them."""

LONGEST = 32
"""How many nodes a path has at most that `links` gives."""

_NODES = pa.schema({"node": pa.string(), "component": pa.string()})
_LINKS = pa.schema({"node": pa.string(), "link": pa.list_(pa.string())})


def kept(rows: DataFrame, location: str) -> DataFrame:
    """Write rows to Parquet and return them as they are read from there: a plan of one step, computed once."""
    rows.write.parquet(stores.spark_path(location))
    return rows.sparkSession.read.schema(rows.schema).parquet(stores.spark_path(location))


def components(edges: DataFrame, scratch: str, limit: int = LIMIT) -> DataFrame:
    """Return the connected component of every node; a component is named by its smallest node.

    While there are more than `limit` edges, every node goes to the one among itself and its neighbours that is first
    in a random order, and edges between those that went to the same place are gone: in every round about half of the
    nodes of a path stay, and less of most other graphs. The rest is collected and finished on the driver.

    Parameters
    ----------
    edges
        Columns l and r, texts; read several times, so let it come from a table. The direction means nothing; edges
        may be there twice, and may lead from a node to itself.
    scratch
        A folder that does not exist yet.
    limit
        How many edges the driver may hold.

    Returns
    -------
    DataFrame
        Columns node and component, one row for each node.
    """
    steps: list[DataFrame] = []
    while edges.count() > limit:
        number = len(steps)
        steps.append(kept(_chosen(edges, number), f"{scratch}/chosen-{number}"))
        edges = kept(_contracted(edges, steps[-1]), f"{scratch}/edges-{number}")
    found = _finished(edges, f"{scratch}/finished.parquet")
    for number, step in reversed(list(enumerate(steps))):
        known = found.select(F.col("node").alias("place"), "component")
        named = step.join(known, "place", how="left")
        found = kept(
            named.select("node", F.coalesce("component", "place").alias("component")), f"{scratch}/of-{number}"
        )
    if not steps:
        return found
    smallest = found.groupBy("component").agg(F.min("node").alias("smallest"))
    named = found.join(smallest, "component", how="inner").select("node", F.col("smallest").alias("component"))
    return kept(named, f"{scratch}/components")


def _chosen(edges: DataFrame, number: int) -> DataFrame:
    """Return where every node goes: the first of its neighbours and itself, in an order that each round draws anew."""

    def ticket(node: str) -> Column:
        return F.struct(F.xxhash64(F.col(node), F.lit(number)).alias("ticket"), F.col(node).alias("place"))

    ways = F.array(F.struct("l", "r"), F.struct(F.col("r").alias("l"), F.col("l").alias("r")))
    directed = edges.select(F.explode(ways).alias("way")).select(
        F.col("way.l").alias("node"), F.col("way.r").alias("to")
    )
    first = directed.groupBy("node").agg(F.min(ticket("to")).alias("first"))
    return first.select("node", F.least("first", ticket("node"))["place"].alias("place"))


def _contracted(edges: DataFrame, chosen: DataFrame) -> DataFrame:
    """Return the edges between the places that nodes go to, each once."""
    left = chosen.select(F.col("node").alias("l"), F.col("place").alias("from"))
    right = chosen.select(F.col("node").alias("r"), F.col("place").alias("to"))
    moved = edges.join(left, "l", how="inner").join(right, "r", how="inner").where(F.col("from") != F.col("to"))
    return moved.select(F.least("from", "to").alias("l"), F.greatest("from", "to").alias("r")).distinct()


def _coded(*columns: pa.ChunkedArray) -> tuple[pa.Array, list[NDArray[np.int32]]]:
    """Return all texts of some columns, sorted, and the columns as indices into them."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    names = pc.unique(pa.chunked_array(chunks, pa.string())).sort()
    return names, [pc.index_in(column, value_set=names).to_numpy().astype(np.int32) for column in columns]


def _read_back(spark: SparkSession, table: pa.Table, location: str, columns: str) -> DataFrame:
    """Leave rows that the driver made in a file, and return them as Spark reads it: no plan has to hold them."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    storage.write(location, sink.getvalue().to_pybytes())
    return spark.read.schema(columns).parquet(stores.spark_path(location))


def _finished(edges: DataFrame, location: str) -> DataFrame:
    table = edges.select("l", "r").toArrow()
    names, (left, right) = _coded(table["l"], table["r"])
    component = names
    if len(names):
        graph = csr_array((np.ones(len(left), bool), (left, right)), shape=(len(names), len(names)))
        _, labels = csgraph.connected_components(graph, directed=False)
        _, first = np.unique(labels, return_index=True)  # names are sorted: the first with a label is the smallest
        component = names.take(pa.array(first[labels]))
    found = pa.table([names, component], schema=_NODES)
    return _read_back(edges.sparkSession, found, location, "node string, component string")


def links(edges: DataFrame, ends: DataFrame, scratch: str, limit: int = LIMIT) -> DataFrame:
    """Return shortest paths from roots to other nodes of their components; of several the same one in every run.

    Paths are found on the driver by a breadth-first search that looks at neighbours in the order of their names.
    With more than `limit` edges there are no paths, and no rows. There is no row either for a path of more than 32
    nodes.

    Parameters
    ----------
    edges
        Columns l and r: the edges of the components that `ends` are in.
    ends
        Columns node and root: the path to the node is to begin at the root. A component has one root.
    scratch
        A folder that does not exist yet.
    limit
        How many edges the driver may hold.

    Returns
    -------
    DataFrame
        Columns node and link, a list of nodes from the root to the node, both included.
    """
    found = _LINKS.empty_table()
    table = edges.select("l", "r").limit(limit + 1).toArrow()
    if 0 < len(table) <= limit:
        wanted = ends.select("node", "root").toArrow()
        names, (left, right, node, root) = _coded(table["l"], table["r"], wanted["node"], wanted["root"])
        reached, lengths, steps = _walked(_towards(left, right, root, len(names)), node)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        texts = pa.DictionaryArray.from_arrays(pa.array(steps), names)  # each name once, however many paths it is in
        found = pa.table({"node": names.take(pa.array(reached)), "link": pa.ListArray.from_arrays(offsets, texts)})
    return _read_back(edges.sparkSession, found, f"{scratch}/links.parquet", "node string, link array<string>")


def _towards(
    left: NDArray[np.int32], right: NDArray[np.int32], root: NDArray[np.int32], nodes: int
) -> NDArray[np.int32]:
    """Return for each node the one before it on the way from its root: `nodes` for roots, -1 for the others."""
    root = np.unique(root)
    # One more node leads to all roots, and one search finds the paths of all components.
    start = np.concatenate([left, right, np.full(len(root), nodes, np.int32)])
    end = np.concatenate([right, left, root])
    graph = csr_array((np.ones(len(start), bool), (start, end)), shape=(nodes + 1, nodes + 1))
    graph.sort_indices()
    _, before = csgraph.breadth_first_order(graph, nodes, directed=True, return_predecessors=True)
    return np.asarray(np.maximum(before, -1), np.int32)


def _walked(before: NDArray[np.int32], node: NDArray[np.int32]) -> tuple[NDArray[np.int32], ...]:
    """Return the nodes with a path that is not too long, how long each path is, and all paths one after the other.

    >>> _walked(np.array([4, 0, 1, -1, -1], np.int32), np.array([2, 0, 3], np.int32))
    (array([2, 0], dtype=int32), array([3, 1]), array([0, 1, 2, 0], dtype=int32))
    """
    start = len(before) - 1
    ways = [node]
    while len(ways) <= LONGEST and ((ways[-1] >= 0) & (ways[-1] != start)).any():
        ways.append(before[ways[-1]])  # of -1, that is the last entry: the start's, which is -1 too
    ends = np.stack([*ways, np.full(len(node), -1, np.int32)][::-1], axis=1)  # from the root's end to the node's
    whole = (ends == start).any(axis=1)
    there = (ends[whole] >= 0) & (ends[whole] != start)
    return node[whole], there.sum(axis=1), ends[whole][there]


def identified(contents: DataFrame, previous: DataFrame, scratch: str) -> tuple[DataFrame, DataFrame]:
    """Return the ids of groups that go on from an earlier manifest, and which earlier groups ended in which.

    An earlier id is claimed by the group that has the content with that sha256, else by the one with most of the
    earlier group's contents, else by the one with the smaller name. A group takes of the ids that it claims the one
    with which it shares most contents, else the smaller one; the groups with the other ids ended in it.

    Parameters
    ----------
    contents
        Columns sha256 and component, of all groups that there are now; a content may be there more than once.
    previous
        Columns sha256 and group_id of the earlier manifest.
    scratch
        A folder that does not exist yet.

    Returns
    -------
    tuple of DataFrame
        Columns component and group_id, for groups that go on; columns group_id and merged.
    """
    before = previous.where(F.col("group_id").isNotNull()).select("sha256", "group_id").distinct()
    shared = before.join(contents.select("sha256", "component").distinct(), "sha256", how="inner")
    counted = shared.groupBy("group_id", "component").agg(
        F.count("*").alias("shared"), F.max(F.col("sha256") == F.col("group_id")).alias("holds")
    )
    claimant = F.min(F.struct(~F.col("holds"), -F.col("shared"), "component", "shared")).alias("claimant")
    claims = counted.groupBy("group_id").agg(claimant).select("group_id", "claimant.component", "claimant.shared")
    best = Window.partitionBy("component").orderBy(F.desc("shared"), "group_id")
    taken = claims.select(
        "component", F.col("group_id").alias("claimed"), F.first("group_id").over(best).alias("taken")
    )
    settled = kept(taken, f"{scratch}/claims")
    ids = settled.where(F.col("claimed") == F.col("taken")).select("component", F.col("taken").alias("group_id"))
    merged = settled.where(F.col("claimed") != F.col("taken"))
    return ids, merged.select(F.col("taken").alias("group_id"), F.col("claimed").alias("merged"))
