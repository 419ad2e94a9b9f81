"""What the demo hides, and how it counts what was found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from dedup import demo
from dedup.edits import EDITS
from dedup.errors import UsageError
from dedup.pixels import decode


@pytest.fixture
def images(tmp_path: Path, photograph: Image.Image) -> Path:
    """A folder with two photographs, and a file that is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    photograph.save(folder / "a.jpg")
    photograph.rotate(20).save(folder / "b.png")
    (folder / "notes").write_text("no image")
    return folder


def hide(folder: Path, images: Path) -> list[str]:
    hidden, locations = demo.hide(folder, str(images))
    assert locations == [str(images), str(folder)]
    return hidden


def test_every_photograph_is_hidden_under_every_edit_chosen(images: Path, tmp_path: Path) -> None:
    hidden = hide(tmp_path / "copies", images)
    assert [Path(path).name for path in hidden] == ["a.jpg", "b.png"]
    altered = [f"{name}--{edit}.png" for name in ("00-a", "01-b") for edit in demo.HIDDEN]
    exact = ["00-a--same bytes.jpg", "00-a--same pixels.bmp"]
    assert sorted(os.listdir(tmp_path / "copies")) == sorted(altered + exact)
    assert set(demo.HIDDEN) <= set(EDITS)


def test_the_first_photograph_has_exact_copies(images: Path, tmp_path: Path) -> None:
    hide(tmp_path / "copies", images)
    content = (images / "a.jpg").read_bytes()
    assert (tmp_path / "copies" / "00-a--same bytes.jpg").read_bytes() == content
    other = (tmp_path / "copies" / "00-a--same pixels.bmp").read_bytes()
    assert decode(other).digest == decode(content).digest
    assert decode(other).format == "BMP"


def test_a_bitmap_that_would_lose_transparency_is_not_made(images: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (40, 30), (200, 100, 50, 128)).save(images / "a.png")
    (images / "a.jpg").unlink()
    hide(tmp_path / "copies", images)
    assert (tmp_path / "copies" / "00-a--same bytes.png").exists()
    assert not (tmp_path / "copies" / "00-a--same pixels.bmp").exists()


def test_what_is_hidden_already_is_not_touched(images: Path, tmp_path: Path) -> None:
    hide(tmp_path / "copies", images)
    for copy in (tmp_path / "copies").iterdir():
        os.utime(copy, (1, 1))
    hide(tmp_path / "copies", images)
    assert {copy.stat().st_mtime for copy in (tmp_path / "copies").iterdir()} == {1}


def test_a_copy_counts_for_its_own_photograph_only(images: Path, tmp_path: Path) -> None:
    first, second = hidden = hide(tmp_path / "copies", images)
    rows = {
        first: [{"paths": ["/x/00-a--text.png", "/x/01-b--lines.png"]}, {"paths": ["/x/00-a--blurred.png"]}],
        second: [{"paths": ["/x/01-b--text.png"]}],
    }
    found = demo.found(hidden, rows)
    assert list(found) == list(demo.HIDDEN)
    assert {edit: count for edit, count in found.items() if count} == {"text": 2, "blurred": 1}


def test_no_images_are_bad_use(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("no image")
    with pytest.raises(UsageError, match="no images in it"):
        demo.hide(tmp_path / "copies", str(tmp_path))
