"""Groups become the manifest: for every file what to do with it, for which other file, and why.

A file is dropped only for one that it is equal to, or near to itself; what is near only to others of its group is
for people to review.
"""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dedup import groups, keepers, tables, viewed
from dedup.distances import METRICS
from dedup.keepers import Policy
from dedup.thresholds import Thresholds

Verify = Callable[[DataFrame], DataFrame]
"""Measures pairs, near or not: columns sha256_l and sha256_r become the columns of pairs that `build` takes."""

_MEASURES = ("votes", *METRICS, "view")


def build(
    files: DataFrame,
    pairs: DataFrame,
    thresholds: Thresholds,
    policy: Policy,
    verify: Verify,
    scratch: str,
    previous: DataFrame | None = None,
    run: int = 1,
) -> tuple[DataFrame, DataFrame]:
    """Return the manifest, and which groups of an earlier one ended in which.

    Of a group that is one exact set the best file stays. Of several sets those with a protected file stay, else the
    one with the best file. The others are dropped for the best of these that they are near to, or are to be reviewed
    if the thresholds are not calibrated. Sets that are near to none of these are to be reviewed. Of a set that stays
    or is to be reviewed, the best file stands for it, and the others are dropped for that one.

    Parameters
    ----------
    files
        Columns path, sha256, exact, length, modified, width, height, format, own and model; one row for each path.
        Files that are not own are only compared against: they stay, and have no rows.
    pairs
        The near pairs between exact sets of these files: the columns of the table of pairs, and `view`, the place in
        `views.VIEWS` of what has to be done to the first to be like the second; read several times, so let it be a
        table.
    thresholds
        What pairs are near by.
    policy
        Which files are better.
    verify
        Measures other pairs. It is asked about sets that are near to no keeper, with the best file's set of their
        group. Where it finds one near after all, because the search for pairs had missed it, it is near.
    scratch
        A folder that does not exist yet; to be deleted when the tables are written.
    previous
        The manifest of an earlier run, whose groups go on.
    run
        The number of this run.

    Returns
    -------
    tuple of DataFrame
        The columns of the tables manifest and merges.
    """
    keepers.check(policy)
    edges = pairs.select(F.col("sha256_l").alias("l"), F.col("sha256_r").alias("r"))
    component = groups.components(edges, f"{scratch}/components")
    placed = groups.kept(_placed(files, component, policy), f"{scratch}/placed")
    related = groups.kept(_related(placed, pairs), f"{scratch}/related")
    judged = related.where("near is not null").select("exact", F.lit(True).alias("near"), "near.*", _no_link())
    unmet = related.where("near is null").select("exact", "root")
    if not unmet.isEmpty():
        measured = groups.kept(_measured(unmet, verify, thresholds.votes), f"{scratch}/measured")
        linked = _linked(measured.where("not near"), edges, placed, scratch)
        judged = judged.unionByName(measured.join(linked, "exact", how="left"))
    named, merges = _named(placed, previous, scratch, run)
    return _decided(named.join(judged, "exact", how="left"), thresholds, policy), merges


def _no_link() -> Column:
    return F.lit(None).cast("array<string>").alias("link")


def _placed(files: DataFrame, component: DataFrame, policy: Policy) -> DataFrame:
    """Return files with their place in their group.

    New columns: component; paired, whether its exact set is in any pair; key; top, whether it is the best file of its
    group, and next, the key of the one after it; root, the exact set and the key of the best; alone; first, whether
    it is the best of its exact set, and best, the key and the sha256 of that.
    """
    group = Window.partitionBy("component").orderBy("key")
    exact = Window.partitionBy("component", "exact").orderBy("key")
    return (
        files.withColumn("key", keepers.key(policy))
        .select("path", "sha256", "exact", "length", "own", "model", "key")
        .join(component.withColumnRenamed("node", "exact"), "exact", how="left")
        .withColumn("paired", F.col("component").isNotNull())
        .withColumn("component", F.coalesce("component", "exact"))
        .withColumn("first", F.row_number().over(exact) == 1)
        .withColumn("best", F.first(F.struct("key", "sha256")).over(exact))
        .withColumn("top", F.row_number().over(group) == 1)
        .withColumn("next", F.lead("key").over(group))
        .withColumn("root", F.first(F.struct("exact", "key")).over(group))
        .withColumn("alone", F.col("top") & F.col("next").isNull())
    )


def _stays() -> Column:
    """Tell whether a file stays whatever it is near to; with the best file of an exact set, the set is a keeper."""
    return F.col("top") | (F.col("key.protected") == 0)


def _related(placed: DataFrame, pairs: DataFrame) -> DataFrame:
    """Return the exact sets of groups that are no keepers.

    Columns exact, root, and near: the key of the best keeper that it is near to, votes, distances, and what has to be
    done to it to be like that keeper; null for none.
    """
    sets = placed.where(F.col("first") & F.col("paired"))
    stand = sets.where(_stays()).select(F.col("exact").alias("other"), F.col("key").alias("stand"))
    left, right = F.col("sha256_l"), F.col("sha256_r")
    view = F.col("view")
    ways = F.array(
        F.struct(left.alias("exact"), right.alias("other"), view),
        F.struct(right.alias("exact"), left.alias("other"), viewed.undone(view).alias("view")),
    )
    directed = pairs.select(F.explode(ways).alias("way"), "votes", *METRICS).select("way.*", "votes", *METRICS)
    near = directed.join(stand, "other", how="inner").groupBy("exact")
    best = near.agg(F.min(F.struct("stand", *_MEASURES)).alias("near"))  # keys are never equal: the first one decides
    return sets.where(~_stays()).select("exact", "root").join(best, "exact", how="left")


def _measured(unmet: DataFrame, verify: Verify, votes: int) -> DataFrame:
    """Return sets without a keeper that they are near to with what they have in common with the best of their group.

    Columns exact, near, stand, and what was measured, as of the sets that are near.
    """
    ends = {"sha256_l": F.least("exact", "root.exact"), "sha256_r": F.greatest("exact", "root.exact")}
    asked = unmet.withColumns(ends)
    found = verify(asked.select(*ends)).select(*ends, *_MEASURES)
    view = F.when(F.col("exact") == F.col("sha256_l"), F.col("view")).otherwise(viewed.undone(F.col("view")))
    return asked.join(found, list(ends), how="left").select(
        "exact",
        F.coalesce(F.col("votes") >= votes, F.lit(False)).alias("near"),
        F.col("root.key").alias("stand"),
        "votes",
        *METRICS,
        view.alias("view"),
    )


def _linked(apart: DataFrame, edges: DataFrame, placed: DataFrame, scratch: str) -> DataFrame:
    """Return the paths of the best files of the sets that lead from the best file of a group to sets apart from it.

    Columns exact and link.
    """
    sets = placed.where(F.col("first") & F.col("paired")).select("exact", "key.path", F.col("root.exact").alias("root"))
    ends = apart.join(sets, "exact", how="inner").select(F.col("exact").alias("node"), "root")
    concerned = sets.join(ends.select("root").distinct(), "root", how="left_semi").select(F.col("exact").alias("l"))
    links = groups.links(edges.join(concerned, "l", how="left_semi"), ends, f"{scratch}/links")
    steps = links.select("node", F.posexplode("link").alias("step", "exact")).join(sets, "exact", how="inner")
    link = F.array_sort(F.collect_list(F.struct("step", "path")))["path"]
    return steps.groupBy(F.col("node").alias("exact")).agg(link.alias("link"))


def _named(placed: DataFrame, previous: DataFrame | None, scratch: str, run: int) -> tuple[DataFrame, DataFrame]:
    """Return own files with their group_id, also of files alone, and the merges."""
    own = placed.where("own")
    if previous is None:
        merges = placed.sparkSession.createDataFrame([], tables.SCHEMAS["merges"])
        return own.withColumn("group_id", F.col("component")), merges
    own_groups = own.select("component").distinct()
    contents = placed.where("not alone").join(own_groups, "component", how="left_semi")
    ids, merged = groups.identified(contents, previous, f"{scratch}/ids")
    # A group without an id is named by its smallest sha256, unless that is the id of a group that went on without it.
    used = ids.select(F.col("group_id").alias("component"), F.lit(True).alias("used"))
    fresh = F.when(F.col("used"), F.sha2(F.concat_ws("#", "component", F.lit(run)), 256)).otherwise(F.col("component"))
    joined = own.join(ids, "component", how="left").join(used, "component", how="left")
    named = joined.withColumn("group_id", F.coalesce("group_id", fresh)).drop("used")
    return named, merged.select(F.lit(run).alias("run"), "group_id", "merged")


def _decided(rows: DataFrame, thresholds: Thresholds, policy: Policy) -> DataFrame:
    """Return the manifest of files with their place in their group and what their sets were found near to."""
    certain = F.lit(thresholds.calibrated) & F.coalesce("near", F.lit(False))
    apart = F.col("near").isNotNull() & ~certain  # the whole set is under review
    stays = _stays()
    copy = ~stays & ~certain & ~F.col("first")
    action = F.when(stays, "keep").when(apart & F.col("first"), "review").otherwise("drop")
    keeper = F.when(stays, F.col("key")).when(copy, F.col("best.key")).otherwise(F.col("stand"))
    equal = F.when(F.col("sha256") == F.col("best.sha256"), "bytes").otherwise("pixels")
    method = F.when(~stays, F.when(copy, equal).otherwise("near"))
    kept = (
        F.when(F.col("alone"), "alone")
        .when(F.col("key.protected") == 0, "protected")
        .otherwise(keepers.decided(policy, F.col("key"), F.col("next")))
    )
    review = F.when(F.col("near"), "uncalibrated").otherwise("linked")
    reason = F.when(stays, kept).when(action == "review", review)
    near = method == "near"
    measured = {"votes": F.when(copy, len(METRICS)).when(near, F.col("votes"))} | {
        metric: F.when(copy, 0.0).when(near, F.col(metric)) for metric in METRICS
    }
    within = {f"{metric}_threshold": F.when(near, F.lit(float(thresholds.within[metric]))) for metric in METRICS}
    columns = {
        "group_id": F.when(~F.col("alone"), F.col("group_id")),
        "action": action,
        "keeper": keeper["path"],
        "method": method,
        "reason": F.coalesce(reason, keepers.decided(policy, keeper, F.col("key"))),
        "view": F.when(near, viewed.word(F.col("view"))),
        "link": F.when(near & ~F.col("near"), F.col("link")),
        **measured,
        **within,
    }
    schema = tables.SCHEMAS["manifest"]
    return rows.select(*[columns.get(name, F.col(name)).alias(name) for name in schema.names])


def _sums() -> list[Column]:
    action, method = F.col("action"), F.col("method")
    return [
        F.count("*").alias("files"),
        *[F.count_if(action == name).alias(name) for name in ("keep", "drop", "review")],
        *[F.count_if((action == "drop") & (method == name)).alias(name) for name in ("bytes", "pixels", "near")],
        F.count_if(F.col("group_id").isNull()).alias("alone"),
        F.count_distinct("group_id").alias("groups"),
        F.coalesce(F.sum(F.when(action == "drop", F.col("length"))), F.lit(0)).alias("saved"),
    ]


def check_counts(manifest: DataFrame, files: DataFrame) -> dict[str, int]:
    """Make sure that a manifest accounts for all files that it was built of, and return its counts.

    These are the numbers of files, by action (keep, drop, review) and, of the dropped ones, by method (bytes, pixels,
    near); alone, files in no group; groups; and saved, the bytes of the dropped ones.

    Raises
    ------
    RuntimeError
        If files are missing or there twice, sums differ, or a keeper is itself dropped, under review or not there.
    """
    there = manifest.where("action != 'drop'").select(F.col("path").alias("keeper"), F.col("action").alias("stands"))
    outside = files.where("not own").select(F.col("path").alias("keeper"), F.lit("keep").alias("stands"))
    action, stands = F.col("action"), F.col("stands")
    lost = stands.isNull() | ((action == "review") & (stands != "keep"))
    itself = (action == "keep") != (F.col("keeper") == F.col("path"))
    alone = F.col("group_id").isNull() != (F.col("reason") == "alone")
    judged = manifest.join(there.unionByName(outside), "keeper", how="left")
    wrong = {"keepers that do not stay": lost, "keep without being their keeper": itself, "wrongly alone": alone}
    faults = [F.count_if(fault).alias(name) for name, fault in wrong.items()]
    row = judged.agg(*_sums(), F.count_distinct("path").alias("paths"), *faults).collect()[0]
    found = {name: int(value) for name, value in row.asDict().items()}
    paths = found.pop("paths")
    strange = {name: number for name in wrong if (number := found.pop(name))}
    own = files.where("own").count()
    acted = found["keep"] + found["drop"] + found["review"]
    dropped = found["bytes"] + found["pixels"] + found["near"]
    if not own == paths == found["files"] == acted:
        raise RuntimeError(f"{own} files, but {found['files']} rows, {paths} paths, {acted} kept, dropped or to review")
    if dropped != found["drop"]:
        raise RuntimeError(f"{found['drop']} files are dropped, but {dropped} by bytes, pixels or near")
    if strange:
        raise RuntimeError("rows of the manifest: " + ", ".join(f"{number} {name}" for name, number in strange.items()))
    return found
