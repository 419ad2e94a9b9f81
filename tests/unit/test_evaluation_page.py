"""The page of an evaluation."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from tests.pages import Page, evaluated

from dedup import drawings, evaluation, evaluation_page, page
from dedup.distances import METRICS
from dedup.edits import EDITS
from dedup.evaluation import Evaluated
from dedup.limits import Interval
from dedup.ranks import PLACES, POLL, Curve


@pytest.fixture(scope="module")
def found() -> Evaluated:
    return evaluated()


@pytest.fixture(scope="module")
def shown(found: Evaluated) -> str:
    return evaluation_page.render(found)


def test_the_page_has_two_rows_and_a_drawing_for_each_edit(shown: str, found: Evaluated) -> None:
    for name in EDITS:
        assert len(re.findall(rf'<th scope="row">{name}</th>', shown)) == 2, name
    assert shown.count("<figure>") == len(EDITS) + 1
    row = next(line for line in shown.splitlines() if '<th scope="row">lines</th>' in line)
    for first in PLACES:
        assert f">{page.percent(found.recall['lines'][POLL][first].value)}<" in row
    assert f"{found.agreement.opinions:.2f} independent opinions" in shown


def test_keyboards_and_screen_readers_find_their_way(shown: str) -> None:
    assert 'class="scroll"' in shown
    Page(shown).require_usable()


def test_what_others_wrote_is_not_code(shown: str) -> None:
    assert "&lt;script&gt;model" in shown
    assert "<script" not in shown
    assert "<b>" not in shown


def test_the_page_needs_nothing_else_and_is_well_formed(shown: str) -> None:
    assert not re.search(r"https?:|src=|url\((?!#)|@import", shown)
    root = ET.fromstring(shown[shown.index("<body>") : shown.index("</body>") + 7].replace("<br>", "<br/>"))
    drawn = [group for group in root.iter("g") if group.get("class", "").startswith("curve-")]
    assert len(drawn) == (len(METRICS) + 1) * (len(EDITS) + 1)


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (Interval(-0.3, -0.4, -0.2), ("more than cosine", "+20.0 to +40.0 points")),
        (Interval(0.3, 0.2, 0.4), ("less than cosine", "-40.0 to -20.0 points")),
        (Interval(0.02, -0.05, 0.1), ("no clear difference to cosine", "-10.0 to +5.0 points")),
        (Interval(-1, -1, 1), ("no clear difference to cosine", "-100.0 to +100.0 points")),
    ],
)
def test_the_verdict_is_honest(found: Evaluated, gain: Interval, says: tuple[str, str]) -> None:
    said = evaluation_page.verdict(replace(found, best="cosine", gains={"cosine": gain}))
    for words in says:
        assert words in said


def test_other_ways_to_count_stand_beside_the_poll(shown: str, found: Evaluated) -> None:
    for method, gain in found.gains.items():
        assert f"<td><small>{evaluation_page.points(gain)}</small></td>" in shown, method
    assert evaluation_page.points(Interval(-0.0, -0.0004, 0.012)) == "+0.0 (-0.0 to +1.2)"


def test_the_terminal_says_the_same(found: Evaluated) -> None:
    lines = evaluation.told(found)
    line = next(line for line in lines if line.strip().startswith("lines"))
    for first in PLACES:
        assert f"{found.recall['lines'][POLL][first].value:.2f}" in line
    assert lines[-1] == "report: /out/evaluation.html"
    assert "a <b>note</b>" in lines


def test_a_curve_goes_where_its_numbers_are() -> None:
    x = np.linspace(0, 1, 80)
    drawn = drawings.curves({"dice": (x, (1 - x) ** 2), "poll": (x[:0], x[:0])}, "a <b> c")
    path = re.search(r'class="curve-dice">\s*<path d="([^"]*)"', drawn)
    assert path
    points = np.array([(float(a), float(b)) for a, b in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path[1])])
    assert (np.diff(points, axis=0) >= 0).all()
    right, down = np.ptp(points, axis=0)
    share = (points - points[0]) / (right, down)  # downwards is more, in a picture
    np.testing.assert_allclose(share[:, 1], 1 - (1 - share[:, 0]) ** 2, atol=0.01)
    assert 'aria-label="a &lt;b&gt; c"' in drawn
    assert "var(--dice)" in drawn


def test_of_a_long_curve_some_points_are_enough_and_the_ends_are_among_them() -> None:
    long = np.linspace(0, 1, 5001)
    recall, precision = Curve(long, 1 - long, Interval(0.5, 0, 1)).thinned()
    assert len(recall) == 100
    assert (recall[0], recall[-1]) == (0, 1)
    np.testing.assert_array_equal(precision, 1 - recall)
    assert len(Curve(long[:0], long[:0], Interval(0, 0, 1)).thinned()[0]) == 0
