"""A lake from end to end: features become pairs, groups, a manifest and a page."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup import (
    candidates,
    claims,
    contents,
    delivery,
    formats,
    gallery,
    groups,
    images,
    keepers,
    manifest,
    models,
    pairs,
    progress,
    rounds,
    search,
    sketches,
    storage,
    stores,
    summary,
    tables,
    turned,
    vectors,
    viewed,
)
from dedup import state as states
from dedup.claims import Claim
from dedup.errors import Outage, UsageError
from dedup.model import Model
from dedup.summary import Deduplicated, Request
from dedup.turned import Turned

_log = logging.getLogger(__name__)

_SAMPLE = 1024  # vectors to which the axes of sketches are fitted
_FORMAT = 1  # of the state, sketches and pairs that a run leaves: those of another one are made anew


def deduplicate(spark: SparkSession, request: Request) -> Deduplicated:
    """Find the groups of a lake, and leave its pairs, its manifest and the page.

    What an earlier run with the same settings has compared is not compared again, and its groups keep their ids.

    Raises
    ------
    UsageError
        If there are no features, the thresholds are another model's or for fewer views, the network that views need
        cannot be had any more, the output cannot be written, or another run writes there.
    RuntimeError
        If the counts do not add up.
    """
    request.check()
    output = formats.folder(request.output)
    locations = {formats.located(request.features): True}
    if request.against:
        locations.setdefault(formats.located(request.against), False)
        if len(locations) == 1:
            raise UsageError(f"--against {request.against}: these are the features themselves")
    if output in locations:
        raise UsageError(f"{output}: the output needs another place than the features")
    model = _model(request, list(locations))
    if request.table and request.seen > 1:
        images.require_finished(formats.located(request.table))
    storage.require_writable(output)
    with claims.claimed(output, "deduplicate") as claim, delivery.described(spark, "deduplicate"):
        formats.begin(output, request.format)
        tables.sweep(output, "manifest", "merges", "pairs", "sketches", "views")
        for name in storage.names(output):
            if name.startswith("_scratch-"):  # of a run that was killed
                storage.delete(f"{output}/{name}")
        return _deduplicate(spark, request, output, locations, model, claim)


def _deduplicate(
    spark: SparkSession, request: Request, output: str, locations: dict[str, bool], model: str, claim: Claim
) -> Deduplicated:
    with _scratch(output) as folder, rounds.held(contents.files(spark, locations, model)) as files:
        with progress.step(spark, "deduplicate: list files"):
            if files.where("own").isEmpty():
                raise UsageError(f"{request.features}: no image has features of {model}")
            others = contents.others(spark, locations, model, files)
            keepers.check_protected(request.policy, files)
        return _Run(spark, request, output, folder, model, locations, files, claim).finish(others)


@contextmanager
def _scratch(output: str) -> Iterator[str]:
    """Give a folder for the time of a `with`, which is gone afterwards."""
    folder = f"{output}/_scratch-{uuid.uuid4().hex[:8]}"
    try:
        yield folder
    except BaseException:
        try:
            storage.delete(folder)
        except (UsageError, Outage) as error:  # what ended the run says more, and the next one deletes the folder
            _log.warning("%s", error)
        raise
    storage.delete(folder)


def _model(request: Request, locations: list[str]) -> str:
    """Return the id of the model whose features are compared."""
    made_for = request.thresholds.model
    if made_for and request.model and made_for != request.model:
        raise UsageError(f"the thresholds were made for {made_for}, not for {request.model}")
    made = models.one(locations[0], request.model or made_for or None)
    if made.recipe is not None and not request.thresholds.calibrated:
        raise UsageError(f"the default thresholds are for VGG16, not for {made.model}: give --thresholds of calibrate")
    model = made.model
    for location in locations[1:]:
        models.one(location, model)
    return model


def _network(request: Request, model: str) -> Model:
    """Return the network that made the features."""
    return models.again(formats.located(request.features), model, request.weights)


class _Run:
    """One run: what its steps share."""

    def __init__(
        self,
        spark: SparkSession,
        request: Request,
        output: str,
        folder: str,
        model: str,
        locations: dict[str, bool],
        files: DataFrame,
        claim: Claim,
    ) -> None:
        self._claim = claim
        self._spark, self._request, self._output, self._folder = spark, request, output, folder
        self._files, self._model = files, model
        before = states.load(output)
        with progress.step(spark, "deduplicate: exact copies"):
            self._exact = groups.kept(
                files.groupBy(F.col("exact").alias("sha256")).agg(F.every("own").alias("own")), f"{folder}/exact"
            )
        self._turned = None
        self._vectors = plain = contents.vectors(spark, locations, model)
        if request.seen > 1:
            self._turned, rows = self._turn(list(locations))
            self._vectors = contents.vectors(spark, locations, model, [rows])
        settings = {
            "format": _FORMAT,
            "model": model,
            "thresholds": {name: value for name, value in asdict(request.thresholds).items() if name != "views"},
            "way": request.way,
            "against": list(locations)[1:],
        }
        if request.seen > 1:  # what was compared as it is counts as it did before there were views
            settings["views"] = request.seen
        if before is not None and before.settings == settings and self._holds(before):
            self._state = before
        else:
            with progress.step(spark, "deduplicate: fit sketches"):
                axes = sketches.fit(_sample(plain, next(iter(locations))))
            self._state = states.State(0 if before is None else before.run, settings, (), "", False, axes)
            self._state.save(output)  # from now on, what was compared under other settings counts for nothing

    def _turn(self, locations: list[str]) -> tuple[Turned, DataFrame]:
        """Make the views of exact sets that are not there yet, and return the features of all.

        From then on the views are sets too, which are only compared with.
        """
        request, output, model = self._request, self._output, self._model
        places = [*([formats.located(request.table)] if request.table else []), *locations]
        network = partial(_network, request, model)
        folder = f"{self._folder}/views"
        made = turned.make(self._exact, request.seen, places, output, model, network, self._claim, folder)
        rows = turned.there(self._spark, output, model, request.seen)
        names = rows.select("sha256").distinct().withColumn("own", F.lit(False))
        there = names.join(
            self._exact.select(F.col("sha256").alias("content")),
            viewed.content("sha256") == F.col("content"),
            how="left_semi",
        )
        self._exact = groups.kept(self._exact.unionByName(there), f"{self._folder}/turned")
        return made, rows

    def _holds(self, before: states.State) -> bool:
        """Tell whether what an earlier run left is there, and can be added to."""
        if not before.parts:
            return False
        pairs = [before.pairs] if before.pairs else []
        held = {"sketches": before.parts, "pairs": pairs}
        return all(tables.holds(self._spark, self._output, table, parts) for table, parts in held.items())

    def finish(self, others: contents.Others) -> Deduplicated:
        """Do the work, and leave what comes of it."""
        self._clear()
        with self._step("sketches"):
            parts, compared = self._sketched()
        with rounds.held(self._live(parts)) as live:
            with self._step("count sketches"):
                count = live.where(_plain()).count()
            found = search.Search(
                live.where("code is not null"),
                self._vectors,
                self._request.thresholds,
                self._state.axes.shape[1],
                f"{self._folder}/search",
            ).run(self._request.way)
            near = self._known(live).unionByName(found.pairs.select(*tables.SCHEMAS["pairs"].names)).distinct()
            self._claim.require()
            with self._step("write pairs"):
                part = tables.replace(near, self._output, "pairs")
                near_part = part if tables.holds(self._spark, self._output, "pairs", [part]) else ""  # no rows, no part
                parts = self._settled(live, parts)
                first = live.groupBy("vector").agg(viewed.first().alias("first"))
                stood = live.join(first, "vector").select("sha256", F.col("first.sha256").alias("first"))
                stands = groups.kept(stood, f"{self._folder}/stands")
        with self._step("groups and manifest"):
            of_contents = self._near()
            counts = self._manifest(of_contents, stands)
        cut = self._state.cut or bool(found.hot)
        replace(self._state, run=self._state.run + 1, parts=parts, pairs=near_part, cut=cut).save(self._output)
        for name in ("sketches", "pairs", "manifest"):
            tables.tidy(self._output, name)
        written = tables.read(self._spark, self._output, "manifest")
        if self._request.csv:
            with self._step("CSV"):
                self._write_csv(written)
        with self._step("page"):
            shown = gallery.collect(self._spark, written, self._request.thresholds.votes, self._files)
            page = f"{self._output}/report.html"
            done = Deduplicated(self._model, counts, others, count, compared, found, shown, page, self._turned)
            hot = summary.hot(self._files, found)
            storage.write(page, summary.page(self._request, done, of_contents.count(), hot).encode())
        return done

    def _step(self, what: str) -> AbstractContextManager[None]:
        return progress.step(self._spark, f"deduplicate: {what}")

    def _clear(self) -> None:
        """Delete what a run that was stopped, or had other settings, has left of sketches and pairs.

        Where pairs were cut, those that are left say nothing of what they would be without a file that is gone.
        """
        if self._state.cut:
            last = tables.read(self._spark, self._output, "sketches").where(F.col("part").isin(*self._state.parts))
            if not last.join(self._exact, "sha256", how="left_anti").isEmpty():
                self._state = replace(self._state, parts=(), pairs="", cut=False)
                self._state.save(self._output)
        for table, parts in {"sketches": self._state.parts, "pairs": (self._state.pairs,)}.items():
            tables.keep(self._spark, self._output, table, parts)

    def _sketched(self) -> tuple[tuple[str, ...], int]:
        """Make the sketches of contents that have none; return the parts that hold all, and how many are fresh."""
        parts = list(self._state.parts)
        compared = tables.latest(tables.read(self._spark, self._output, "sketches"), "sha256")
        with rounds.held(self._exact.join(compared, ["sha256", "own"], how="left_anti")) as fresh:
            for rows in vectors.chosen(self._vectors, fresh.select("sha256")):
                made = candidates.sketch(rows, self._state.axes).join(fresh, "sha256")
                parts.append(tables.append(made, self._output, "sketches"))
            return tuple(parts), fresh.where(_plain()).count()

    def _live(self, parts: tuple[str, ...]) -> DataFrame:
        """Return the sketches of the exact sets that there are now, and whether they have to be compared."""
        rows = tables.latest(tables.read(self._spark, self._output, "sketches"), "sha256")
        fresh = F.col("part").isin(*(set(parts) - set(self._state.parts)))
        return rows.join(self._exact.select("sha256"), "sha256", how="left_semi").withColumn("fresh", fresh)

    def _settled(self, live: DataFrame, parts: tuple[str, ...]) -> tuple[str, ...]:
        """Return the parts that hold the sketches of what there is now, and nothing else.

        What is gone has to be forgotten: were it to come back, it would count as compared with what came in between.
        """
        held = tables.read(self._spark, self._output, "sketches")
        if held.join(live, "sha256", how="left_anti").isEmpty():
            return parts
        return (tables.replace(live, self._output, "sketches"),)

    def _known(self, live: DataFrame) -> DataFrame:
        """Return the near pairs that the last run left, between the contents that now stand for the same vectors.

        A content stands for all that have its vector: the first of them, which may be new, or was second to one that
        is gone. Pairs of vectors that no content has any more are left out, and those of two that have become
        `against`.
        """
        if not self._state.pairs:
            return self._spark.createDataFrame([], tables.SCHEMAS["pairs"])
        first = live.groupBy("vector").agg(viewed.first()["sha256"].alias("first"), F.max("own").alias("own"))
        last = tables.read(self._spark, self._output, "sketches").where(F.col("part").isin(*self._state.parts))
        names = last.select("sha256", "vector").distinct().join(first, "vector").select("sha256", "first", "own")
        left, right = names.toDF("sha256_l", "left", "own_l"), names.toDF("sha256_r", "right", "own_r")
        before = tables.read(self._spark, self._output, "pairs").where(F.col("part") == self._state.pairs).drop("part")
        moved = before.join(left, "sha256_l").join(right, "sha256_r").where("left != right and (own_l or own_r)")
        return moved.withColumns(
            {"sha256_l": F.least("left", "right"), "sha256_r": F.greatest("left", "right")}
        ).select(*tables.SCHEMAS["pairs"].names)

    def _near(self) -> DataFrame:
        """Return the near pairs of contents, as a table."""
        found = self._of_contents(tables.read(self._spark, self._output, "pairs"))
        return groups.kept(found, f"{self._folder}/near") if self._turned else found

    def _of_contents(self, rows: DataFrame) -> DataFrame:
        """Return pairs of contents and of views as pairs of contents: what a manifest is made of."""
        return pairs.of_contents(rows) if self._turned else rows.withColumn("view", F.lit(0))

    def _manifest(self, near: DataFrame, stands: DataFrame) -> dict[str, int]:
        """Write the manifest and what merged; return the counts, which add up before any of it is seen."""
        previous = tables.read(self._spark, self._output, "manifest") if self._state.run else None
        rows, merges = manifest.build(
            self._files,
            near,
            self._request.thresholds,
            self._request.policy,
            self._verify(stands),
            f"{self._folder}/manifest",
            previous,
            self._state.run + 1,
        )
        rows = groups.kept(rows, f"{self._folder}/built")
        counts = manifest.check_counts(rows, self._files)
        self._claim.require()
        # A run that is stopped here is run again, and must not log its merges twice.
        logged = tables.read(self._spark, self._output, "merges").drop("part")
        new = merges.join(logged, merges.columns, how="left_anti")
        if not new.isEmpty():
            tables.append(new, self._output, "merges")
        storage.delete(f"{self._output}/manifest.csv")  # of an earlier run: it says what is true no more
        tables.replace(rows.orderBy("path"), self._output, "manifest")
        return counts

    def _verify(self, stands: DataFrame) -> Callable[[DataFrame], DataFrame]:
        """Return what measures pairs of contents, in all views that there are.

        Those of contents with the same vectors are measured once, and those of one vector not.
        """
        folder = f"{self._folder}/verify"

        def verify(asked: DataFrame) -> DataFrame:
            left, right = stands.toDF("sha256_l", "left"), stands.toDF("sha256_r", "right")
            least, greatest = F.least("left", "right").alias("least"), F.greatest("left", "right").alias("greatest")
            joined = pairs.in_views(asked.distinct(), self._request.seen).join(left, "sha256_l").join(right, "sha256_r")
            named = groups.kept(joined.select("sha256_l", "sha256_r", least, greatest), f"{folder}/asked")
            apart = groups.kept(
                named.where("least < greatest").select("least", "greatest").distinct(), f"{folder}/apart"
            )
            ends = apart.toDF("sha256_l", "sha256_r")
            width, thresholds = self._state.axes.shape[1], self._request.thresholds
            measured = pairs.measure(ends, ends.count(), self._vectors, thresholds, width, f"{folder}/vectors")
            of_apart = named.join(
                measured.withColumnsRenamed({"sha256_l": "least", "sha256_r": "greatest"}), ["least", "greatest"]
            ).drop("least", "greatest")
            equal = named.where("least = greatest").select("sha256_l", "sha256_r", *pairs.equal())
            return self._of_contents(of_apart.unionByName(equal))

        return verify

    def _write_csv(self, rows: DataFrame) -> None:
        """Write the manifest to OUTPUT/manifest.csv, sorted by path; the paths of a link are a JSON list."""
        flat = _unobeyed(rows.select(*tables.SCHEMAS["manifest"].names).withColumn("link", F.to_json("link")))
        one = flat.coalesce(1).sortWithinPartitions("path")
        asis = {"ignoreLeadingWhiteSpace": False, "ignoreTrailingWhiteSpace": False}  # a name may end with a blank
        one.write.options(header=True, escape='"', **asis).csv(f"{stores.spark_path(self._folder)}/csv")
        (part,) = [name for name in storage.names(f"{self._folder}/csv") if name.startswith("part-")]
        storage.move(f"{self._folder}/csv/{part}", f"{self._output}/manifest.csv")


def _unobeyed(rows: DataFrame) -> DataFrame:
    """Return rows whose texts no spreadsheet takes for formulas: an apostrophe stands before those that begin like one.

    No path that `ingest` lists does, nor anything that jobs say of one; but a table may come from somebody else.
    """
    texts = [field.name for field in rows.schema if field.dataType == T.StringType()]
    return rows.withColumns({name: F.regexp_replace(name, r"^(?=[=+\-@\t\r\n＝＋－＠])", "'") for name in texts})


def _plain() -> Column:
    """Tell whether a row is of a content as it is."""
    return viewed.number("sha256") == 0


def _sample(rows: DataFrame, location: str) -> NDArray[np.float32]:
    """Return some finite vectors, of the first buckets and in the order of their hashes: the same ones in every run."""
    buckets: list[int] = []
    total = 0
    for row in rows.groupBy("bucket").count().orderBy("bucket").collect():
        buckets.append(row["bucket"])
        total += row["count"]
        if total >= 2 * _SAMPLE:
            break
    some = rows.where(F.col("bucket").isin(buckets)).orderBy(F.xxhash64("sha256"), "sha256").limit(_SAMPLE)
    found = vectors.stacked([row["features"] for row in some.select("features").collect()], location)
    finite: NDArray[np.float32] = found[np.isfinite(found).all(axis=1)]
    return finite
