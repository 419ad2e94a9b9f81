"""The page in a real browser, where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.lacking import without
from tests.pages import deduplication, evaluated, row

from dedup import evaluation_page
from dedup.distances import METRICS
from dedup.pixels import thumbnail
from dedup.report import Answer, Report, render, render_deduplication

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    if BROWSER is None:
        without("browser", "no Chromium is installed")


QUERIES, EACH = 1000, 10
HOSTILE = "/lake/<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>.jpg"


def chromium(profile: Path, *words: str) -> str:
    """Run the browser without a window and without a network, and return what it prints."""
    assert BROWSER is not None
    flags = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--disable-quic", f"--user-data-dir={profile}"),
    )
    done = subprocess.run([BROWSER, *flags, *words], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def answered(folder: Path, queries: int) -> Path:
    """Return a page of results with pictures and a hostile name."""
    red = folder / "red.png"
    Image.new("RGB", (120, 90), (255, 0, 0)).save(red)
    picture = thumbnail(red.read_bytes(), 96)
    assert picture is not None
    answers = [
        Answer(
            f"query {query}",
            picture,
            [row(rank + 1, f"{rank:064x}", [HOSTILE, "/b", "/c"], 2, euclidean=1) for rank in range(EACH)],
        )
        for query in range(queries)
    ]
    pictures = {f"{rank:064x}": picture for rank in range(EACH)}
    file = folder / "report.html"
    report = Report("the title", {"Queries": str(queries)}, ["a note"], list(METRICS), answers, pictures)
    file.write_text(render(report), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of a few queries."""
    return answered(tmp_path_factory.mktemp("page"), 5)


def test_ten_thousand_results_are_there_and_no_name_is_code(tmp_path: Path) -> None:
    found = chromium(tmp_path, "--dump-dom", answered(tmp_path, QUERIES).as_uri())
    assert found.count('<li class="result">') == QUERIES * EACH
    assert "<title>the title</title>" in found
    assert "<script>" not in found


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of an evaluation."""
    file = tmp_path_factory.mktemp("evaluation") / "evaluation.html"
    file.write_text(evaluation_page.render(evaluated()), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of deduplication with pictures and a hostile name."""
    folder = tmp_path_factory.mktemp("found")
    red = folder / "red.png"
    Image.new("RGB", (120, 90), (255, 0, 0)).save(red)
    file = folder / "report.html"
    page = deduplication(HOSTILE.removeprefix("/lake/"), thumbnail(red.read_bytes(), 96))
    file.write_text(render_deduplication(page), encoding="utf-8")
    return file


DARK, LIGHT = 0, 1


def shot(page: Path, folder: Path, width: int, height: int, scheme: int = LIGHT) -> np.ndarray:
    """Return the pixels of a page, in a window or, like a phone's, in a frame."""
    shown = page
    if width < 500:  # no window of the browser is as narrow as a phone
        shown = folder / "frame.html"
        frame = f'<iframe src="{page.as_uri()}" style="width: {width}px; height: {height}px; border: 0"></iframe>'
        shown.write_text(f'<body style="margin: 0">{frame}', encoding="utf-8")
    file = folder / f"{width}.png"
    looks = (f"--blink-settings=preferredColorScheme={scheme}", f"--window-size={width},{height}")
    chromium(folder / str(width), *looks, f"--screenshot={file}", shown.as_uri())
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", ["page", "found"])
def test_a_phone_and_a_desk_show_pictures(
    name: str, width: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pixels = shot(request.getfixturevalue(name), tmp_path, width, 5000)
    red, green, blue = np.moveaxis(pixels, 2, 0)
    assert ((red > 200) & (green < 60) & (blue < 60)).sum() > 5000, "the thumbnails are painted"


PAGES = ["page", "found", "evaluation"]


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_dark_where_that_is_wanted(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    page = request.getfixturevalue(name)
    light, dark = (shot(page, tmp_path, 1280, 900, scheme).astype(int).mean(axis=2) for scheme in (LIGHT, DARK))
    assert np.median(light) > 200
    assert np.median(dark) < 60
    assert dark.max() > 200, "and the text is light"


def measured(page: str, style: str, script: str, folder: Path) -> str:
    """Return the title that a script gives when it has measured a page, which lies in a frame."""
    measure = folder / "measure.html"
    source = page.replace("&", "&amp;").replace('"', "&quot;")
    frame = f'<iframe style="{style}" srcdoc="{source}"></iframe>'
    measure.write_text(f"{frame}<script>onload = () => {{ {script} }}</script>", encoding="utf-8")
    title = re.search("<title>(.*)</title>", chromium(folder, "--dump-dom", measure.as_uri()))
    assert title is not None
    return title[1]


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_need_not_scroll_sideways(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    script = (
        "const d = frames[0].document.documentElement;"
        "document.title = 'width ' + d.scrollWidth + ' of ' + d.clientWidth"
    )
    page = request.getfixturevalue(name).read_text(encoding="utf-8")
    title = re.fullmatch("width ([0-9]+) of ([0-9]+)", measured(page, "width: 400px", script, tmp_path))
    assert title is not None
    assert int(title[1]) <= int(title[2])


def test_what_a_result_says_is_inside_of_its_card_at_any_width(tmp_path: Path) -> None:
    said = row(1, "0" * 64, ["/lake/image.jpg"], 5, **dict.fromkeys(METRICS, 10))
    said |= dict.fromkeys(METRICS, 0.000794) | {f"{metric}_margin": 1.0 for metric in METRICS}
    report = Report("the title", {}, [], list(METRICS), [Answer("a query", None, [said] * 10)], {})
    script = (
        "const frame = document.querySelector('iframe'), wide = [];"
        "for (let width = 320; width <= 1600; width += 20) { frame.style.width = width + 'px';"
        "  const cards = [...frames[0].document.querySelectorAll('.result')];"
        "  if (cards.length != 10 || cards.some(card => card.scrollWidth > card.clientWidth)) wide.push(width) }"
        "document.title = 'too wide at [' + wide + ']'"
    )
    assert measured(render(report), "height: 5000px", script, tmp_path) == "too wide at []"


def test_what_was_found_is_there_and_no_name_is_code(found: Path, tmp_path: Path) -> None:
    dom = chromium(tmp_path, "--dump-dom", found.as_uri())
    assert "<title>Duplicates</title>" in dom
    assert "<script>" not in dom
    assert '<img src="x"' not in dom
