"""The page in a real browser, where one is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dedup.distances import METRICS
from dedup.pixels import thumbnail
from dedup.report import Answer, Report, render

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

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


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of 10,000 results with pictures and a hostile name."""
    folder = tmp_path_factory.mktemp("page")
    red = folder / "red.png"
    Image.new("RGB", (120, 90), (255, 0, 0)).save(red)
    picture = thumbnail(red.read_bytes(), 96)
    assert picture is not None
    row = dict.fromkeys(METRICS, 0.25) | {f"{metric}_place": None for metric in METRICS} | {"votes": 2}
    answers = [
        Answer(
            f"query {query}",
            picture,
            [
                row | {"rank": rank + 1, "sha256": f"{rank:064x}", "euclidean_place": 1, "paths": [HOSTILE, "/b", "/c"]}
                for rank in range(EACH)
            ],
        )
        for query in range(QUERIES)
    ]
    pictures = {f"{rank:064x}": picture for rank in range(EACH)}
    file = folder / "report.html"
    report = Report("the title", {"Queries": str(QUERIES)}, ["a note"], list(METRICS), answers, pictures)
    file.write_text(render(report), encoding="utf-8")
    return file


def test_ten_thousand_results_are_there_and_no_name_is_code(page: Path, tmp_path: Path) -> None:
    found = chromium(tmp_path, "--dump-dom", page.as_uri())
    assert found.count('<li class="result">') == QUERIES * EACH
    assert "<title>the title</title>" in found
    assert "<script>" not in found


def test_a_phone_and_a_desk_show_pictures(page: Path, tmp_path: Path) -> None:
    for width in (390, 1280):
        shot = tmp_path / f"{width}.png"
        chromium(tmp_path / str(width), f"--window-size={width},900", f"--screenshot={shot}", page.as_uri())
        with Image.open(shot) as image:
            red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")), 2, 0)
        painted = ((red > 200) & (green < 60) & (blue < 60)).sum()
        assert painted > 5000, "the thumbnails are painted"
