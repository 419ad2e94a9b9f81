"""The page: everything of the answer is on it, nothing on it is obeyed, and it needs nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest
from PIL import Image
from tests.pages import HOSTILE, PIXEL, Page, row

from dedup import archives
from dedup.distances import METRICS
from dedup.errors import Outage
from dedup.pixels import thumbnail
from dedup.report import Answer, Report, _make_thumbnails, render

Encode = Callable[..., bytes]


def page(answers: list[Answer], title: str = "Title", thumbnails: dict[str, str] | None = None) -> Page:
    facts, notes = {"Model": "vgg16 <b>", "Queries": "2"}, ["Take <i>care</i>"]
    return Page(render(Report(title, facts, notes, list(METRICS), answers, thumbnails or {})))


def test_the_page_says_all_that_was_asked_and_found() -> None:
    rows = [row(1, "aa", ["/x/a.jpg"], 5, **dict.fromkeys(METRICS, 1)), row(2, "bb", ["/x/b.jpg"], 2, cosine=7, dice=3)]
    found = page([Answer("/x/query.jpg", PIXEL, rows)], thumbnails={"aa": PIXEL})
    for text in ("Title", "Model", "vgg16 <b>", "Take <i>care</i>", "/x/query.jpg", "/x/a.jpg", "/x/b.jpg"):
        assert text in found.texts
    assert "2 images voted for" in found.texts
    assert [text for text in found.texts if text.startswith("#")] == ["#1", *["#1"] * 5, "#2", "#7", "#3"]
    assert [text for text in found.texts if text.endswith("/5")] == ["5/5", "2/5"]
    assert [found.texts.count(text) for text in ("●●●●●", "●●○○○")] == [1, 1]
    for number, metric in enumerate(METRICS, 1):
        assert found.texts.count(metric) == 2
        assert found.texts.count(f"{number + 0.001:.3g}") >= 1
    assert found.texts.count("25 %") == 7, "how far the named are from not being named"
    assert "the file cannot be read now" in found.texts  # bb has no thumbnail
    found.require_usable()


def test_the_page_says_which_view_of_the_query_is_like_a_result() -> None:
    rows = [row(1, "aa", ["a"], 5), row(2, "bb", ["b"], 3) | {"view": "turned left"}, row(3, "cc", ["c"], 1)]
    found = page([Answer("q", None, rows)])
    assert [text for text in found.texts if text.startswith("like the query")] == ["like the query turned left"]


@pytest.mark.parametrize(
    ("distance", "shown"),
    [(0.0, "0"), (0.0041234, "0.00412"), (12.345, "12.3"), (1830.4, "1830"), (1234567.0, "1234567")],
)
def test_distances_are_short(distance: float, shown: str) -> None:
    answer = Answer("q", None, [row(1, "aa", ["a"], 1) | {"manhattan": distance}])
    assert shown in page([answer]).texts


def test_all_paths_of_a_content_are_shown() -> None:
    paths = [f"/lake/{number}/same.jpg" for number in range(12)]
    text = page([Answer("q", None, [row(1, "aa", paths, 1)])]).text
    assert all(path in text for path in paths)
    assert "and 11 more" in text


def test_a_content_without_paths_is_shown_by_its_hash() -> None:
    assert "abcdef" in page([Answer("q", None, [row(1, "abcdef", [], 1)])], thumbnails={"abcdef": PIXEL}).texts


def test_queries_without_pictures_and_without_results_are_shown() -> None:
    found = page([Answer("first", None, []), Answer("second", None, [])])
    assert [text for text in found.texts if text in {"first", "second"}] == ["first", "second"]
    assert found.texts.count("no picture") == found.texts.count("0 images voted for") == 2


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_are_shown_and_never_obeyed(hostile: str) -> None:
    def answers(name: str) -> list[Answer]:
        rows = [row(1, "aa", [name], 1), row(2, "bb", [name, name], 1)]
        return [Answer(name, PIXEL, rows), Answer("q", None, [row(1, name, [], 1)])]

    found = page(answers(hostile), title=hostile, thumbnails={"aa": PIXEL, "bb": PIXEL})
    harmless = page(answers("name"), title="name", thumbnails={"aa": PIXEL, "bb": PIXEL})
    assert found.tags() == harmless.tags()
    assert found.texts.count(hostile) == harmless.texts.count("name")
    for (_, attributes), (_, expected) in zip(found.elements, harmless.elements, strict=True):
        assert attributes == {name: hostile if value == "name" else value for name, value in expected.items()}


def test_a_store_that_does_not_answer_costs_pictures_and_not_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def silent(path: str) -> bytes:
        asked.append(path)
        raise Outage("no answer")

    monkeypatch.setattr(archives, "read", silent)
    rows = [{"sha256": str(number), "paths": ["/a", "/b"], "side": 96} for number in range(3)]
    made = _make_thumbnails(iter([pa.RecordBatch.from_pylist(rows)]))
    assert [row for batch in made for row in batch.to_pylist()] == [
        {"sha256": str(number), "thumbnail": None} for number in range(3)
    ]
    assert asked == ["/a"], "nobody waits for it again"


def test_the_page_needs_nothing_else(photograph: Image.Image, encode: Encode) -> None:
    picture = thumbnail(encode(photograph, "PNG"), 176)
    report = Report("t", {}, [], list(METRICS), [Answer("q", picture, [row(1, "aa", ["a"], 1)])], {"aa": picture})
    html = render(report)
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "@import" not in html
    found = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(found.tags())
    sources = [attributes["src"] for _, attributes in found.elements if "src" in attributes]
    assert sources == [picture, picture]
    assert not [attributes for _, attributes in found.elements if "href" in attributes or "srcset" in attributes]


def test_only_the_metrics_that_voted_are_counted() -> None:
    rows = [row(1, "aa", ["a"], 1, dice=1)]
    found = Page(render(Report("t", {}, [], ["dice", "cosine"], [Answer("q", None, rows)], {})))
    assert "1/2" in found.texts
    assert "●○" in found.texts
    silent = [attributes for tag, attributes in found.elements if tag == "tr" and attributes.get("class") == "silent"]
    assert len(silent) == len(METRICS) - 1


def test_every_column_has_a_name_and_a_focus_is_said_of_the_picture() -> None:
    answer = Answer("q", PIXEL, [row(1, "aa", ["a"], 1, dice=1)])
    found = Page(render(Report("t", {}, [], ["dice"], [answer], {}, focused=True)))
    heads = [attributes["scope"] for tag, attributes in found.elements if tag == "th"]
    assert heads == ["col"] * 4 + ["row"] * len(METRICS)
    assert {"metric", "distance", "place", "nearer by"} <= set(found.texts)
    (picture,) = [attributes["alt"] for tag, attributes in found.elements if tag == "img"]
    assert picture == "The query, what does not count dimmed"
