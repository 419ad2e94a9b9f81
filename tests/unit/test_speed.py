"""The benchmark's own parts, without what it measures: turns, figures, the table, the plot, the marked place."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from benchmarks import contest, speed_report

SERVING = "import sys; sys.path.insert(0, sys.argv[1]); import serving\n"
COUNTS = (
    SERVING
    + "serving.serve(lambda: (lambda: print('noise'), lambda _: {'seconds': 2.0, 'count': 3, 'also': {'half': 1.0}}))"
)
FAILS = SERVING + "runs = iter([1])\nserving.serve(lambda: (lambda: next(runs), lambda count: {'count': count}))"
NEVER = "raise SystemExit('error: there is no such library')"


def contestant(name: str, *seconds: float | None, count: int = 1, error: str | None = None) -> dict[str, Any]:
    """Return the figures of a contestant that took these seconds by round; None where it failed."""
    answers = [None if one is None else {"seconds": one, "count": count} for one in seconds]
    return {"name": name, "about": f"what {name} does", "command": [name], "error": error, "answers": answers}


@pytest.fixture
def extract() -> dict[str, Any]:
    contestants = [
        contestant("DeDup", 10, 20, 40, count=100),
        contestant("slow", 10, 10, 20, count=25),
        contestant("absent", None, None, None, error="no library | at all"),
    ]
    return {"row": "extract", "title": "features", "unit": "images/s", "rounds": 3, "contestants": contestants}


@pytest.fixture
def query() -> dict[str, Any]:
    contestants = [contestant("DeDup", 1.0, 3.0, 2.0), contestant("quick", 0.5, 0.5, None)]
    return {"row": "query", "title": "one query", "unit": "s", "rounds": 3, "contestants": contestants}


def test_each_turn_begins_with_another_contestant_and_has_all_of_them() -> None:
    turns = [contest.rotated("abc", turn) for turn in range(4)]
    assert ["".join(turn) for turn in turns] == ["abc", "bca", "cab", "abc"]
    assert contest.rotated([], 3) == []


def test_a_rate_is_of_one_image_however_many_a_contestant_had(extract: dict[str, Any]) -> None:
    ours, slow, absent = extract["contestants"]
    assert speed_report.values("images/s", ours) == [10, 5, 2.5]
    assert speed_report.values("images/s", slow) == [2.5, 2.5, 1.25]
    assert speed_report.values("images/s", absent) == []


def test_a_ratio_is_the_median_of_rounds_and_above_one_where_the_other_is_slower(
    extract: dict[str, Any], query: dict[str, Any]
) -> None:
    ours, slow, absent = extract["contestants"]
    assert speed_report.ratio("images/s", ours, slow) == 2  # of 4, 2, 2: not of the medians, 5 / 2.5
    assert speed_report.ratio("images/s", ours, ours) == 1
    assert speed_report.ratio("images/s", ours, absent) is None
    mine, quick = query["contestants"]
    assert speed_report.ratio("s", mine, quick) == pytest.approx((0.5 + 0.5 / 3) / 2)  # the third round is not its own


def test_a_table_names_each_comparison_once_and_says_what_failed(
    extract: dict[str, Any], query: dict[str, Any]
) -> None:
    lines = speed_report.table([extract, query]).splitlines()
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert lines[2:] == [
        "| features | **DeDup** | 5.00 images/s | 2.50 to 10.0 | 1.00 |",
        "|  | slow | 2.50 images/s | 1.25 to 2.50 | 2.00 |",
        "|  | absent | failed: no library \\| at all |  |  |",
        "| one query | **DeDup** | 2.00 s | 1.00 to 3.00 | 1.00 |",
        "|  | quick | 0.500 s | 0.500 to 0.500 | 0.33 |",
    ]


def test_of_several_of_ours_each_has_a_ratio_to_all_others() -> None:
    contestants = [contestant("DeDup, exact", 4.0), contestant("DeDup, rough", 1.0), contestant("slow", 8.0)]
    comparison = {"row": "extract", "title": "features", "unit": "s", "rounds": 1, "contestants": contestants}
    assert speed_report.table([comparison]).splitlines()[2:] == [
        "| features | **DeDup, exact** | 4.00 s |  | 1.00 · 4.00 |",
        "|  | **DeDup, rough** | 1.00 s |  | 0.25 · 1.00 |",
        "|  | slow | 8.00 s |  | 2.00 · 8.00 |",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.00123, "0.00123"),
        (0.5, "0.500"),
        (1, "1.00"),
        (9.996, "10.0"),
        (12.34, "12.3"),
        (99.96, "100"),
        (1234.5, "1,234"),
    ],
)
def test_a_number_has_three_digits_that_count(value: float, shown: str) -> None:
    assert speed_report.number(value) == shown


def test_every_contestant_is_explained_once(query: dict[str, Any]) -> None:
    assert speed_report.notes([query, query]) == (
        "- query, **DeDup**: what DeDup does\n- query, **quick**: what quick does\n"
    )


def test_peaks_are_shown_by_job() -> None:
    peaks = {"JVM": 2.5e9, "driver's Python": 3e8, "Python worker": 1.2e9}
    one = {"job": "query", "of": "20,000 rows", "peaks": peaks, "error": None}
    failed = {"job": "extract", "of": "8 images", "peaks": {}, "error": "exit code 1"}
    lines = speed_report.memory_table([one, failed]).splitlines()
    assert lines[2:] == [
        "| query | 20,000 rows | 2.50 GB | 0.30 GB | 1.20 GB |",
        "| extract | 8 images | failed: exit code 1 |  |  |",
    ]
    assert speed_report.memory_table([]) == ""


def test_what_stands_between_the_marks_is_replaced_and_nothing_else() -> None:
    begin, end = speed_report.BEGIN, speed_report.END
    once = speed_report.between(f"above\n{begin}\n{end}\nbelow\n", "| table |\n")
    assert once == f"above\n{begin}\n\n| table |\n\n{end}\nbelow\n"
    assert speed_report.between(once, "| table |\n") == once
    assert speed_report.between(once, "") == f"above\n{begin}\n{end}\nbelow\n"


@pytest.mark.parametrize("text", ["", speed_report.BEGIN, speed_report.END + speed_report.BEGIN])
def test_without_both_marks_nothing_is_written(text: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        speed_report.between(text, "table")


@pytest.mark.parametrize("name", ["README.md", "docs/performance.md"])
def test_the_docs_have_the_place(root: Path, name: str) -> None:
    text = (root / name).read_text()
    assert speed_report.between(speed_report.between(text, "<once>"), "<twice>").count("<twice>") == 1


def test_the_plot_has_a_bar_for_each_ratio_and_a_background_of_the_page(
    extract: dict[str, Any], query: dict[str, Any]
) -> None:
    drawn = speed_report.plot([extract, query])
    assert drawn == speed_report.plot([extract, query])
    said = [element.text for element in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert {"features", "one query", "DeDup", "slow", "quick"} <= set(said)
    assert "absent" not in said
    assert b"#ffffff" not in drawn
    assert b"#000000" not in drawn


def test_contestants_run_in_turn_and_one_that_fails_ends_no_other(root: Path, tmp_path: Path) -> None:
    folder = os.fspath(root / "benchmarks" / "contestants")
    scripts = {"counts": COUNTS, "fails": FAILS, "never": NEVER}
    entries = [contest.Entry(name, name, [sys.executable, "-c", script, folder]) for name, script in scripts.items()]
    told: list[str] = []
    comparison = contest.Comparison("row", "title", "s", 2, entries)
    done = contest.compete(comparison, tmp_path, os.environ, told.append)
    counts, half, fails, never = done["contestants"]
    assert [name.partition(":")[0] for name in told] == [*scripts, *scripts, "fails", "never", "counts"]
    assert counts["answers"] == 2 * [{"seconds": 2.0, "count": 3, "also": {"half": 1.0}}]
    assert (half["name"], [answer["seconds"] for answer in half["answers"]]) == ("counts: half", [1.0, 1.0])
    assert (counts["error"], fails["answers"], never["answers"]) == (None, [None, None], [None, None])
    assert fails["error"] == "StopIteration"
    assert never["error"] == "error: there is no such library"
    assert "noise" in (tmp_path / "title-counts.txt").read_text()


def test_what_is_measured_against_is_pinned_beside_what_dedup_needs(root: Path) -> None:
    lines = (root / "benchmarks" / "requirements.txt").read_text().splitlines()
    _, first, *pinned = lines
    assert first == "-r ../requirements.txt"
    assert all("==" in line and "://" not in line for line in pinned)
    ours = {line.partition("==")[0] for line in (root / "requirements.txt").read_text().splitlines()}
    assert not ours & {line.partition("==")[0] for line in pinned}
