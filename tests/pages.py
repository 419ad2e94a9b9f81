"""What tests of pages share: how a browser reads one, names that must not be obeyed, a deduplication, an evaluation."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np

from dedup import ranks
from dedup.distances import METRICS
from dedup.edits import EDITS
from dedup.evaluation import Evaluated
from dedup.ranks import Copies, Others
from dedup.report import (
    Band,
    Deduplication,
    File,
    Folder,
    Gallery,
    Group,
    Hot,
    Lane,
    Review,
    Search,
    Sizes,
    Tally,
)
from dedup.thresholds import Thresholds

HOSTILE = [
    "<script>alert(1)</script>.jpg",
    "\"><img src=x onerror='alert(1)'>.jpg",
    "a' onload='alert(1).jpg",
    "{{ 7 * 7 }}{% raw %}.jpg",
    "&amp;&lt;b&gt;.jpg",
    "</title></style></section>.jpg",
    "javascript:alert(1)",
]
IMAGES = 30  # that an evaluation has asked for
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACw="


class Page(HTMLParser):
    """What a browser makes of the page: its texts, and its elements with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]

    def require_usable(self) -> None:
        """Make sure that a screen reader finds its way, and that a keyboard reaches what can be scrolled."""
        levels = [int(tag[1]) for tag, _ in self.elements if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit()]
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels)), levels
        ids = {attributes["id"] for _, attributes in self.elements if "id" in attributes}
        for _, attributes in self.elements:
            assert attributes.get("aria-labelledby", None) in {None, *ids}
            if attributes.get("class") == "scroll":
                assert attributes["tabindex"] == "0"
                assert attributes["role"] == "group"
                assert attributes["aria-labelledby"] in ids


WITHIN = {metric: number + 0.5 for number, metric in enumerate(METRICS)}


def group(kept: File, others: list[File], files: int | None = None) -> Group:
    """A group of one keeper, with some or all of its files."""
    drop, review = (sum(one.action == action for one in others) for action in ("drop", "review"))
    saved = sum(one.length or 0 for one in others if one.action == "drop")
    shown = 1 + len(others)
    return Group("a1b2" * 16, files or shown, 1, drop, review, saved, [Lane(kept, others)], (files or shown) - shown)


def deduplication(name: str = "name", picture: str | None = PIXEL, **more: Any) -> Deduplication:
    """A page with one of everything; 10 files: 6 kept, 3 to drop, 1 under review. `more` replaces its parts."""
    keep = File(f"/lake/{name}", "keep", "resolution", None, "", "aa", 3_000_000, width=40, height=30, format="PNG")
    distances = dict.fromkeys(METRICS, 2.75)
    equal = replace(keep, path="/lake/equal.png", action="drop", reason="path", method="bytes", keeper=keep.path)
    near = replace(equal, path="/lake/near.png", reason="bytes", method="near", votes=2, score=0.8, distances=distances)
    odd = replace(near, path=f"/odd/{name}", action="review", reason="linked", sha256="bb", votes=1, score=1.25)
    outside = File("/archive/old.tif", "against")
    gallery = Gallery(
        tallies=[
            Tally("keep", None, "alone", 4, 4_000),
            Tally("keep", None, "resolution", 2, 6_000_000),
            Tally("drop", "bytes", "path", 2, 2_000_000),
            Tally("drop", "near", "bytes", 1, 1_234_567),
            Tally("review", "near", "linked", 1, 99),
        ],
        sizes=[Sizes(2, 2, 1, 2, 1, 1_234_567), Sizes(3, 5, 1, 4, 2, 2_000_000)],
        folders=[Folder(f"/lake/in {name}", 6, 2, 0, 8_000_000, 2_000_000)],
        elsewhere=Folder("", 4, 1, 1, 1_238_666, 1_234_567),
        others=3,
        bands=[
            Band("bytes", 2, 0, 2_000_000, 1, [group(keep, [equal])]),
            Band("0.75–1", 1, 0, 1_234_567, 1, [group(keep, [near], files=12)]),
            Band("linked", 0, 1, 99, 0, []),
        ],
        largest=[replace(group(keep, [near, odd]), lanes=[Lane(keep, [near, odd]), Lane(outside, [equal])])],
        reviews=[Review(odd, keep, [near, equal], 5, "c3d4" * 16)],
        thumbnails={"aa": picture} if picture else {},
    )
    made = Deduplication(
        title="Duplicates",
        facts={"Features": f"/features/{name}"},
        notes=["Take <i>care</i>"],
        rejects=5,
        shared=0,
        thresholds=Thresholds("the model", 2, WITHIN, "500 images"),
        search=Search(False, 17, 12_345, 0.991, 0.985, 0.996, 1_700),
        hot=[Hot(f"/white/{name}", 41_210, "compared with the first only")],
        gallery=gallery,
    )
    return replace(made, **more)


def evaluated() -> Evaluated:
    """Return what comes of invented distances: copies from 0 up, different images from 1 up."""
    random = np.random.default_rng(1)
    near = 1 + np.sort(random.random((IMAGES, 40, 1)), axis=1) + random.random((IMAGES, 40, len(METRICS))) / 10
    named, copied = np.ones(near.shape, bool), np.zeros(near.shape[:2], bool)
    others = Others.around(near, named, copied, whole=False, group=np.arange(IMAGES))
    image = np.repeat(np.arange(IMAGES), len(EDITS))
    distance = random.random((len(image), len(METRICS))) * np.tile(np.arange(len(EDITS)), IMAGES)[:, None] / 5
    hidden = Copies(image, np.tile(np.array(list(EDITS)), IMAGES), distance)
    recall = ranks.recall(others, hidden)
    return Evaluated(
        model="<script>model</script>",
        views=8,
        images=900,
        originals=32,
        unread=2,
        natural=5,
        recall=recall,
        best=ranks.best(recall),
        gains=ranks.gains(others, hidden),
        curves=ranks.curves(others, hidden),
        agreement=ranks.agreement(others),
        copies={kind: len(hidden.of(kind).kind) for kind in hidden.kinds},
        notes=["a <b>note</b>"],
        page="/out/evaluation.html",
    )


def row(rank: int, sha256: str, paths: list[str], votes: int, **places: int) -> dict[str, Any]:
    """A row of the table of results; each distance is its metric's number and the rank."""
    distances = {metric: number + rank / 1000 for number, metric in enumerate(METRICS, 1)}
    named: dict[str, float | None] = {f"{metric}_place": places.get(metric) for metric in METRICS}
    named |= {f"{metric}_margin": 0.25 if metric in places else None for metric in METRICS}
    return (
        {"query": "q", "rank": rank, "sha256": sha256, "paths": paths, "votes": votes, "view": "plain"}
        | distances
        | named
    )
