"""How well copies are found among a user's own images, from end to end: what is hidden, places, curves, a page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from dedup import (
    copies,
    evaluation_page,
    formats,
    images,
    labels,
    limits,
    neighbours,
    progress,
    queries,
    ranks,
    results,
    storage,
    tables,
    views,
)
from dedup.distances import DEFAULT_P, METRICS, listed
from dedup.edits import EDITS
from dedup.errors import UsageError
from dedup.limits import Interval, Measured
from dedup.model import Model
from dedup.models import Made
from dedup.queries import Queries
from dedup.ranks import ALL, POLL, Agreement, Copies, Curve, Others


@dataclass(frozen=True)
class Wish:
    """What is asked for."""

    features: str  #: the location of the table of features
    output: str  #: the folder for evaluation.json and evaluation.html
    table: str | None = None  #: the location of the table of images; None where `features` has paths that can be read
    originals: int = 200  #: how many images are altered, and asked for
    labels: str | None = None  #: the location of a file of labelled pairs, which are asked for instead
    p: float = DEFAULT_P
    views: int = 1  #: how many views of each image are asked for: one of `views.COUNTS`

    def check(self) -> None:
        """Make sure that it can be fulfilled.

        Raises
        ------
        UsageError
            If a number is out of range.
        """
        results.check(1, self.p, list(METRICS))
        if self.originals < 1:
            raise UsageError(f"--originals {self.originals}: at least 1 image must be looked at")
        views.require(self.views)


@dataclass(frozen=True)
class Evaluated:
    """What came of it."""

    model: str
    views: int  #: of each image that was asked for
    images: int  #: different images in the lake
    originals: int  #: images that were asked for
    unread: int  #: of these, images that could not be read any more
    natural: int  #: neighbours that were left out, as they are copies too
    recall: dict[str, dict[str, dict[int, Interval]]]  #: by kind, method and place: see `ranks.recall`
    best: str  #: the metric that finds most copies alone
    gains: dict[str, Interval]  #: by method, how much more of all copies it finds than the poll: see `ranks.gains`
    curves: dict[str, dict[str, Curve]]  #: by kind and method
    agreement: Agreement
    copies: dict[str, int]  #: how many there are, by kind
    notes: list[str]  #: what the reader must know before trusting the figures
    page: str  #: the location of evaluation.html

    @property
    def kinds(self) -> list[str]:
        """The kinds of copies, without `ALL`."""
        return [kind for kind in self.recall if kind != ALL]


@dataclass(frozen=True)
class _Hidden:
    """Copies among others, and what was left out."""

    others: Others
    copies: Copies
    images: int
    originals: int
    unread: int
    natural: int
    notes: list[str]


def evaluate(spark: SparkSession, wish: Wish, made: Made, network: Callable[[], Model]) -> Evaluated:
    """Ask for images whose copies are hidden among all images, and leave evaluation.json and evaluation.html.

    Parameters
    ----------
    wish
        What is asked for.
    made
        The model whose features are looked at.
    network
        Called for the model itself where copies have to be made.

    Raises
    ------
    UsageError
        If the lake has too few different images, none of the sample can be read, or the labels name none.
    """
    wish.check()
    storage.require_writable(formats.folder(wish.output))
    tables.require(formats.located(wish.features), "features")
    hidden = _labelled(spark, wish, made, network) if wish.labels else _altered(spark, wish, made, network())
    if not hidden.others.named.any():
        raise UsageError(f"{wish.features}: the images that are asked for have only copies around them")
    recall = ranks.recall(hidden.others, hidden.copies)
    done = Evaluated(
        model=made.model,
        views=wish.views,
        images=hidden.images,
        originals=hidden.originals,
        unread=hidden.unread,
        natural=hidden.natural,
        recall=recall,
        best=ranks.best(recall),
        gains=ranks.gains(hidden.others, hidden.copies),
        curves=ranks.curves(hidden.others, hidden.copies),
        agreement=ranks.agreement(hidden.others),
        copies={kind: int(hidden.copies.are(kind).sum()) for kind in hidden.copies.kinds},
        notes=[*hidden.notes, *filter(None, [made.note])],
        page=f"{wish.output.rstrip('/')}/evaluation.html",
    )
    storage.write(done.page, evaluation_page.render(done).encode())
    figures = f"{wish.output.rstrip('/')}/evaluation.json"
    storage.write(figures, (json.dumps(_figures(done), indent=2) + "\n").encode())
    return done


def _altered(spark: SparkSession, wish: Wish, made: Made, network: Model) -> _Hidden:
    """Return altered copies of a sample of the images."""
    location = formats.located(wish.features)
    table = formats.located(wish.table) if wish.table else location
    images.require_finished(table)
    sample, altered = copies.sampled(
        spark, location, table, made, network, wish.originals, wish.p, "evaluate", wish.views
    )
    read = np.asarray(~np.isnan(altered).any(axis=(1, 2)))
    if not read.any():
        raise _none_read(wish)
    measured = Measured(sample.images, sample.distance[read], sample.named[read], altered[read])
    natural = limits.natural(measured)
    copied = int(natural.any(axis=1).sum())
    so = "fewer copies are found than is said"
    count, edits = measured.copies.shape[:2]
    image, kind = np.repeat(np.arange(count), edits), np.tile(np.array(list(EDITS)), count)
    return _Hidden(
        Others.around(measured.near, measured.named, natural, sample.whole, np.arange(count)),
        Copies(image, kind, measured.copies.reshape(count * edits, -1)),
        sample.images,
        originals=len(read),
        unread=int((~read).sum()),
        natural=int(natural.sum()),
        notes=limits.many_natural(int(natural.sum()), copied, len(natural), limits.DUPLICATES, so),
    )


def _labelled(spark: SparkSession, wish: Wish, made: Made, network: Callable[[], Model]) -> _Hidden:
    """Return copies that a person has labelled: only other views of what is asked for go through the network."""
    assert wish.labels is not None
    location = formats.located(wish.features)
    with progress.step(spark, "evaluate: labels"):
        found = labels.known(spark, location, made, labels.read(wish.labels), f"--labels {wish.labels}")
        originals = sorted(set(found.query.tolist()))
    asked = _asked(spark, wish, made, network, originals)
    pair = np.isin(found.query, asked.names)
    duplicates, duplicate = np.unique(found.duplicate[pair], return_inverse=True)
    query = np.searchsorted(asked.names, found.query[pair])
    with progress.step(spark, "evaluate: look up copies"):
        vectors = neighbours.known(spark, location, made, duplicates.tolist()).vectors
    distance = _nearest(asked, query, vectors, duplicate, wish.p)
    group = found.groups
    sample = neighbours.around(spark, location, made, asked, sorted(group), wish.p, "evaluate")
    own = np.array([group[name] for name in asked.names])
    theirs = np.array([group.get(name.decode(), -1) for name in sample.other.ravel().tolist()])
    copied = (theirs.reshape(sample.other.shape) == own[:, None]) | (sample.distance[:, :, 0] == 0)
    notes = []
    if found.without:
        notes.append(f"{found.without:,} labelled pairs were left out: one of the two has no features.")
    if found.equal:
        notes.append(f"{found.equal:,} labelled pairs were left out: their bytes are equal.")
    if found.repeated:
        notes.append(f"{found.repeated:,} labelled pairs were left out: of the same contents there is another one.")
    if unread := int((~pair).sum()):
        notes.append(f"{unread:,} labelled pairs were left out: their image cannot be read any more.")
    return _Hidden(
        Others.around(sample.distance, sample.named, copied, sample.whole, own),
        Copies(query, found.relation[pair], distance),
        sample.images,
        originals=len(originals),
        unread=len(originals) - len(asked.names),
        natural=int((copied & sample.named.any(axis=2)).sum()),
        notes=notes,
    )


def _asked(spark: SparkSession, wish: Wish, made: Made, network: Callable[[], Model], contents: list[str]) -> Queries:
    """Return contents that have features, in as many views as are wished for; of several, those that can be read."""
    location = formats.located(wish.features)
    if wish.views == 1:
        with progress.step(spark, "evaluate: look up"):
            return neighbours.known(spark, location, made, contents)
    table = formats.located(wish.table) if wish.table else location
    images.require_finished(table)
    asked = queries.of_contents(spark, location, table, contents, made, network, wish.views, "evaluate")
    if not asked.names:
        raise _none_read(wish)
    return asked


def _none_read(wish: Wish) -> UsageError:
    said = "none of the images that are asked for can be read"
    if wish.table:
        return UsageError(f"--table {wish.table}: {said} by it")
    return UsageError(f"{said}: give the table that has them by --table")


def _nearest(
    asked: Queries, query: NDArray[np.intp], vectors: NDArray[np.float32], duplicate: NDArray[np.intp], p: float
) -> NDArray[np.float64]:
    """Return the distances of pairs, the smallest over the views of the first, shape (pairs, metrics).

    Parameters
    ----------
    asked
        The images that are asked for.
    query, duplicate
        The pairs: which of them, and which of the vectors, shape (pairs,).
    vectors
        Shape (images, width).
    p
        The order of the Minkowski distance.
    """
    both, views = np.concatenate([asked.vectors, vectors]), len(asked.views)
    each = [
        list(listed(both, query * views + view, len(asked.vectors) + duplicate, p).values()) for view in range(views)
    ]
    nearest: NDArray[np.float64] = np.array(each).min(axis=0).T
    return nearest


def _figures(done: Evaluated) -> dict[str, object]:
    names = ("model", "views", "images", "originals", "unread", "natural", "copies", "notes", "best")
    average = {
        kind: {method: asdict(curve.average) for method, curve in methods.items()}
        for kind, methods in done.curves.items()
    }
    recall = [
        {"kind": kind, "method": method, "first": first} | asdict(share)
        for kind, method, first, share in ranks.rows(done.recall)
    ]
    curves = {
        kind: {method: [points.round(4).tolist() for points in curve.thinned()] for method, curve in methods.items()}
        for kind, methods in done.curves.items()
    }
    agreement = {"shared": done.agreement.shared.tolist(), "opinions": done.agreement.opinions}
    return {name: getattr(done, name) for name in names} | {
        "recall": recall,
        "more than the poll": {method: asdict(gain) for method, gain in done.gains.items()},
        "average precision": average,
        "recall and precision": curves,
        "agreement": agreement,
    }


def told(done: Evaluated) -> list[str]:
    """Return what a job says of an evaluation."""
    return [
        "copies among the first 1, 5, 10 when their image is asked for: by the poll; by "
        f"{done.best}, the best metric alone",
        *[
            "  ".join([f"  {kind:22}", _places(done.recall[kind][POLL]), "", _places(done.recall[kind][done.best])])
            for kind in done.recall
        ],
        f"the five metrics are {done.agreement.opinions:.2f} independent opinions",
        *done.notes,
        f"report: {done.page}",
    ]


def _places(by_place: dict[int, Interval]) -> str:
    return " ".join(f"{share.value:.2f}" for share in by_place.values())
