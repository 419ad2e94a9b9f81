"""The page of a calibration, and its drawings."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from tests.pages import Page

from dedup import calibration_page, choices, drawings, limits
from dedup.distances import METRICS
from dedup.edits import EDITS
from dedup.limits import Calibration, Interval, Measured
from dedup.thresholds import Thresholds


@pytest.fixture(scope="module")
def measured() -> Measured:
    """Return invented distances: copies from 0.1 up, different images from 1 up."""
    random = np.random.default_rng(1)
    near = np.sort(random.random((30, 80, 1)) ** (1 / 12), axis=1) * np.ones(5) + random.random((30, 80, 5)) / 100
    copies = random.uniform(0.01, 0.2, (30, len(EDITS), 5)) * np.arange(1, 1 + len(EDITS))[:, None] / 2
    copies[:, 0] = 0
    return Measured(900, near, np.isfinite(near), copies)


@pytest.fixture(scope="module")
def found(measured: Measured) -> Calibration:
    return limits.calibrate(measured, 0.999, 3, 0.01)


@pytest.fixture(scope="module")
def page(found: Calibration, measured: Measured) -> str:
    thresholds = Thresholds("<script>model</script>", 3, found.within, "made", 3.0)
    others = choices.choices(measured, 0.999, 3, 0.01)
    chance = np.random.default_rng(2).uniform(0.5, 2, (400, 5))
    return calibration_page.render(thresholds, found, ["a <b>note</b>"], measured, chance, others)


def test_the_page_has_a_row_for_each_edit_and_each_metric(page: str, found: Calibration) -> None:
    for name in (*EDITS, *METRICS):
        assert re.search(rf'<th scope="row">{name}[ <]', page), name
    assert page.count("<figure>") == len(METRICS) + 1
    share = found.recall["resized"].poll.value
    row = next(line for line in page.splitlines() if '<th scope="row">resized</th>' in line)
    assert f">{100 * share:.1f}".removesuffix(".0") in row


def test_keyboards_and_screen_readers_find_their_way(page: str) -> None:
    assert 'class="scroll"' in page
    Page(page).require_usable()


def test_what_others_wrote_is_not_code(page: str) -> None:
    assert "&lt;script&gt;model" in page
    assert "<script" not in page
    assert "<b>" not in page


def test_the_page_needs_nothing_else(page: str) -> None:
    assert not re.search(r"https?:|src=|url\((?!#)|@import", page)


def test_the_page_is_well_formed(page: str) -> None:
    body = page[page.index("<body>") : page.index("</body>") + 7]
    root = ET.fromstring(body)
    drawn = [group for group in root.iter("g") if group.get("class", "").startswith("fill-")]
    assert len(drawn) == 3 * (len(METRICS) + 1)


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (Interval(0.05, 0.01, 0.09), "finds more copies than"),
        (Interval(-0.05, -0.09, -0.01), "finds fewer copies than"),
        (Interval(0.01, -0.02, 0.04), "no clear difference"),
    ],
)
def test_the_verdict_is_honest(found: Calibration, gain: Interval, says: str) -> None:
    assert says in calibration_page.verdict(replace(found, gain=gain)).sentence


def test_the_verdict_names_the_edits_that_the_poll_loses(found: Calibration) -> None:
    worse = calibration_page.verdict(found).worse
    for edit, recall in found.recall.items():
        assert (edit in worse) == (recall.alone[found.best].value > recall.poll.value)


def path(drawn: str, name: str) -> list[tuple[float, float]]:
    """Return the points of what is drawn under a name."""
    found = re.search(rf'class="{name}">\s*<path d="([^"]*)"', drawn)
    assert found
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", found[1])]


def test_a_histogram_stands_where_the_pairs_are() -> None:
    drawn = drawings.histogram({"copies": np.array([1.0] * 9 + [100.0])}, {"poll": 10.0}, "a <b> c")
    (x, foot), (_, top) = path(drawn, "mark-poll")
    columns = path(drawn, "line-copies")
    assert min(y for at, y in columns if at < x) == pytest.approx(top + (foot - top) * -np.log10(0.9) / 4, abs=0.1)
    assert min(y for at, y in columns if at > x) == pytest.approx(top + (foot - top) / 4, abs=0.1)
    left, right = min(at for at, _ in columns), max(at for at, _ in columns)
    assert x == pytest.approx((left + right) / 2, abs=0.1)
    assert 'aria-label="a &lt;b&gt; c"' in drawn


def test_a_histogram_has_the_colours_of_the_page_and_is_the_same_every_time() -> None:
    drawn = [drawings.histogram({"chance": np.arange(9.0)}, {"poll": 1.0, "alone": 2.0}, "") for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert set(re.findall(r"(?:fill|stroke): (#\w+|var\(.*?\))", drawn[0])) <= {
        *(f"var(--{name})" for name in ("line", "soft", "ink", "chance"))
    }
    assert "<?xml" not in drawn[0]
    assert "<metadata>" not in drawn[0]


def test_a_histogram_of_zeros_infinities_or_nothing_is_drawn() -> None:
    for values in (np.zeros(3), np.array([np.inf, np.nan]), np.empty(0), np.array([0.0, 1e-300, 1.0])):
        drawn = drawings.histogram({"nearest": values, "copies": np.array([2.0])}, {"poll": 1.0}, "")
        assert "nan" not in drawn
        assert path(drawn, "mark-poll")
