"""The page of deduplication: numbers that add up, what is sure and what is not, and nothing on it is obeyed."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.pages import HOSTILE, PIXEL, WITHIN, Page, deduplication

from dedup.distances import METRICS
from dedup.page import short
from dedup.report import Folder, Gallery, Search, Tally, render_deduplication
from dedup.thresholds import Thresholds


def rendered(**more: Any) -> Page:
    return Page(render_deduplication(deduplication(**more)))


def gallery(**more: Any) -> Gallery:
    return replace(deduplication().gallery, **more)


def words(page: Page) -> str:
    """The texts of a page in one line."""
    return " ".join(" ".join(page.texts).split())


EMPTY: dict[str, Any] = {
    "tallies": [],
    "sizes": [],
    "folders": [],
    "elsewhere": Folder("", 0, 0, 0, 0, 0),
    "others": 0,
    "bands": [],
    "largest": [],
    "reviews": [],
    "thumbnails": {},
}


def test_the_first_lines_say_what_can_go_and_what_waits() -> None:
    said = words(rendered())
    assert "Of 10 files, 3 can go , which saves 3.23 MB of 9.24 MB (35.0 %). 1 waits for review." in said
    assert "Nothing has been deleted." in said
    assert "Kept 6 60.0 % of the files" in said
    assert "Groups 2 of 6 files; 4 are alone" in said


def test_every_sum_is_there_with_its_parts() -> None:
    found = rendered().texts
    for exact in ("6,004,000", "4,000", "6,000,000", "3,234,567", "2,000,000", "1,234,567", "99", "9,238,666"):
        assert exact in found, exact
    said = words(rendered())
    assert "kept 6 60.0 % 6.00 MB 6,004,000 alone 4 40.0 % 4.00 kB 4,000 keepers of groups 2 20.0 %" in said
    assert "to drop 3 30.0 % 3.23 MB 3,234,567 same bytes 2 20.0 %" in said
    assert "files with features 10 100 % 9.24 MB 9,238,666 rejects, not in the manifest 5" in said
    assert "files in 15" in said
    assert "all groups 2 6 3 3.23 MB files alone 4 files with features 10" in said
    assert "3 other folders 4 1 1 1.23 MB" in said
    assert "all folders 10 3 1 3.23 MB 35.0 %" in said
    assert "the keeper has more bytes bytes 1 1.23 MB" in said


def test_a_review_shows_both_pictures_the_way_and_each_distance_beside_its_threshold() -> None:
    page = rendered()
    said = words(page)
    assert "8 steps from the keeper, each near to the next, through 7 files:" in said
    assert "5 more" in page.texts
    for metric, threshold in WITHIN.items():
        mark, side = ("●", "within") if threshold >= 2.75 else ("○", "beyond")
        assert f"{mark} {metric} 2.75 {side} {short(threshold)}" in said
    assert "1 of 5 agree, 2 are needed." in said
    assert "All are shown." in said


def test_a_file_that_is_near_in_a_view_says_what_has_to_be_done_to_it() -> None:
    review = deduplication().gallery.reviews[0]
    turned = replace(review, file=replace(review.file, view="turned right"))
    assert "near, turned right, score 1.25" in words(rendered(gallery=gallery(reviews=[turned])))


def test_only_some_of_the_reviews_are_shown_and_the_page_says_so() -> None:
    tallies = [*deduplication().gallery.tallies, Tally("review", "near", "uncalibrated", 8_000, 1)]
    said = words(rendered(gallery=gallery(tallies=tallies)))
    assert "1 of 8,001 are shown, of as many groups as possible; the manifest has all." in said


def test_bands_are_shown_least_sure_first_with_how_much_is_hidden() -> None:
    said = words(rendered())
    assert said.index("Near, score 0.75–1 1 group, 1 shown") < said.index("Same bytes 1 group, 1 shown")
    assert "and 10 files more" in said
    assert "near, score 0.80" in said
    assert "the second smallest of its five distances" in said
    assert "of the other set, which stays as it is" in said


def test_how_it_was_made_is_there() -> None:
    said = words(rendered())
    assert "At least 2 of 5 distances are at most these. They were made with 500 images." in said
    assert "Of 1,700 images of a sample that have near ones, it had found them all for 99.1 %" in said
    assert "95 % interval 98.5 % to 99.6 % ." in said
    assert "computed 12,345 near pairs in all 17" in said
    assert "41,210 compared with the first only" in said
    assert "minkowski, p = 3" in said
    assert "wait for review until" not in said


def test_an_exact_search_claims_no_recall_and_an_unmeasured_one_says_so() -> None:
    exact = words(rendered(search=Search(True, 1, 2)))
    assert "The search was exact: no near image is missed in any group." in exact
    assert "interval" not in exact
    assert "How many pairs it misses was not measured." in words(rendered(search=Search(False, 1, 2)))


def test_files_of_the_other_set_are_counted_where_there_are_any() -> None:
    assert "of the other set too" not in words(rendered())
    assert "of the other set too, not in the manifest 7 files in" in words(rendered(shared=7))


def test_thresholds_that_are_not_calibrated_are_said_to_be_defaults() -> None:
    said = words(rendered(thresholds=Thresholds("", 3, WITHIN, "the defaults, made elsewhere")))
    assert "They are the defaults, made elsewhere." in said
    assert "They were not made with these images" in said


def test_an_unknown_rule_or_reason_is_shown_as_it_is() -> None:
    tallies = [Tally("drop", "near", "newest", 3, 5), Tally("keep", None, "alone", 1, 5)]
    assert "newest newest 3 5 B" in words(rendered(gallery=gallery(tallies=tallies)))


@pytest.mark.parametrize(
    ("tallies", "says"),
    [
        ([], "No file has features: there is nothing to compare."),
        ([Tally("keep", None, "alone", 1, 0)], "None of 1 file can go."),
        ([Tally("keep", None, "alone", 7, 9)], "None of 7 files can go."),
    ],
)
def test_a_page_without_groups_says_so(tallies: list[Tally], says: str) -> None:
    said = words(rendered(gallery=Gallery(**EMPTY | {"tallies": tallies}), hot=[], notes=[]))
    assert says in said
    assert "Nothing: every file is kept or can go." in said
    assert "There is no group with a file that could go." in said
    assert "There are no groups: every file is alone." in said


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_are_shown_and_never_obeyed(hostile: str) -> None:
    found, harmless = rendered(name=hostile), rendered(name="harmless")
    assert found.tags() == harmless.tags()
    assert "".join(found.texts) == "".join(harmless.texts).replace("harmless", hostile)
    for (_, attributes), (_, expected) in zip(found.elements, harmless.elements, strict=True):
        assert attributes == {name: value and value.replace("harmless", hostile) for name, value in expected.items()}


def test_keyboards_and_screen_readers_find_their_way() -> None:
    rendered().require_usable()


def test_the_page_needs_nothing_else() -> None:
    html = render_deduplication(deduplication())
    for word in ("http:", "https:", "url(", "@import"):
        assert word not in html
    found = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(found.tags())
    assert {attributes["src"] for _, attributes in found.elements if "src" in attributes} == {PIXEL}
    links = [attributes["href"] for _, attributes in found.elements if "href" in attributes]
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert links
    assert len(set(ids)) == len(ids)
    assert {str(link).removeprefix("#") for link in links} <= set(ids)
    assert {attributes["aria-labelledby"] for tag, attributes in found.elements if tag == "section"} <= set(ids)


def test_a_file_without_a_picture_has_its_place() -> None:
    assert "no picture: the file cannot be read now" in rendered(picture=None).texts
    assert PIXEL not in render_deduplication(deduplication(picture=None))


def test_a_review_that_could_not_be_measured_says_so() -> None:
    review = deduplication().gallery.reviews[0]
    unknown = replace(review.file, distances={}, score=None, votes=None)
    said = words(rendered(gallery=gallery(reviews=[replace(review, file=unknown, link=[], skipped=0)])))
    assert "Its distances to the keeper could not be measured." in said
    assert "The way to the keeper is not known: there were too many pairs." in said


def test_distances_that_are_not_finite_are_shown() -> None:
    found = deduplication()
    review = found.gallery.reviews[0]
    file = replace(review.file, distances=dict.fromkeys(METRICS, float("inf")), score=float("inf"))
    html = render_deduplication(replace(found, gallery=gallery(reviews=[replace(review, file=file)])))
    assert "inf" in Page(html).texts


def test_the_page_can_be_made_from_the_zip_that_is_shipped(root: Path, tmp_path: Path) -> None:
    library = tmp_path / "dedup.zip"
    with zipfile.ZipFile(library, "w") as archive:
        for file in (root / "lib" / "dedup").iterdir():
            if file.is_file():
                archive.write(file, f"dedup/{file.name}")
    script = "from dedup import report\nfrom tests.pages import deduplication\n" + (
        "print(report.__file__, len(report.render_deduplication(deduplication())))"
    )
    path = os.pathsep.join([str(library), str(root)])
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [f"{library}/dedup/report.py", str(len(render_deduplication(deduplication())))]
