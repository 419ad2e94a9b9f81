"""The experiment that this project began with: altered copies hidden among other photographs, and looked for."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from PIL import Image

from dedup import archives, photographs, storage, stores
from dedup.edits import EDITS
from dedup.errors import Reject, UsageError
from dedup.pixels import decode, open_upright

HIDDEN = (
    *("re-encoded", "cropped 10 %", "mirrored", "upside down", "turned left"),
    *("blurred", "greyscale", "text", "lines"),
)
"""The edits of which copies are hidden."""

TOP = 2 + len(HIDDEN)
"""Each metric names so many images: the photograph, its copies, and that in another container have a place each."""

_MOST = 25
_SIDE = 512


def _save(path: Path, content: bytes) -> None:
    """Write a file, unless it is there: what is not touched is not read again by ingest."""
    if not path.exists() or path.read_bytes() != content:
        storage.write(os.fspath(path), content)


def _name(number: int, path: str, edit: str, ending: str) -> str:
    """Return the name of a copy of the photograph with this number."""
    return f"{number:02d}-{Path(path).stem}--{edit}{ending}"


def _encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _copy(folder: Path, path: str, content: bytes, photograph: Image.Image) -> None:
    """Write exact copies of the first photograph; no BMP where it would lose something, such as transparency."""
    _save(folder / _name(0, path, "same bytes", Path(path).suffix), content)
    bitmap = _encoded(photograph, "BMP")
    if decode(bitmap).digest == decode(content).digest:
        _save(folder / _name(0, path, "same pixels", ".bmp"), bitmap)


def hide(folder: Path, images: str | None) -> tuple[list[str], list[str]]:
    """Make altered copies of photographs, and of the first one exact copies: its bytes, and its pixels, once more.

    Parameters
    ----------
    folder
        Where copies go, `folder/NUMBER-STEM--EDIT.png`.
    images
        A folder of one's own; None for the photographs in the wheels, which are put into `folder` as well.

    Returns
    -------
    tuple
        The photographs whose copies are hidden, and the locations that hold all images.
    """
    if images is None:
        for file in photographs.files():
            _save(folder / file.name, file.read_bytes())
        chosen = [os.fspath(folder / file.name) for file in sorted(photographs.named())]
        locations = [os.fspath(folder)]
    else:
        chosen = [entry.path for entry in archives.entries(images) if entry.reject is None]
        locations = [stores.absolute(images), os.fspath(folder)]
    hidden: list[str] = []
    for path in chosen:
        if len(hidden) == _MOST:
            break
        try:
            content = archives.read(path)
            photograph = open_upright(content)
        except Reject:
            continue
        if not hidden:
            _copy(folder, path, content, photograph)
        photograph.thumbnail((_SIDE, _SIDE))
        for edit in HIDDEN:
            altered = _encoded(EDITS[edit](photograph), "PNG", compress_level=1)
            _save(folder / _name(len(hidden), path, edit, ".png"), altered)
        hidden.append(path)
    if not hidden:
        raise UsageError(f"--images {images}: no images in it")
    return hidden, locations


def found(hidden: list[str], rows: dict[str, list[dict[str, Any]]]) -> dict[str, int]:
    """Return for each edit how many of the hidden photographs' copies were voted for when the photograph was asked."""
    counts = dict.fromkeys(HIDDEN, 0)
    for number, path in enumerate(hidden):
        voted = {Path(name).name for row in rows[path] for name in row["paths"]}
        for edit in HIDDEN:
            counts[edit] += _name(number, path, edit, ".png") in voted
    return counts
