"""The experiment that this project began with: altered copies hidden among other photographs, and looked for."""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dedup import storage
from dedup.edits import EDITS
from dedup.errors import Reject, UsageError
from dedup.pixels import open_upright

TOP = 1 + len(EDITS)
"""Each metric names so many images: the photograph itself and its copies have a place each."""

_PHOTOGRAPHS = {
    "skimage": (
        "data",
        "astronaut camera cell chelsea coffee coins hubble_deep_field ihc moon motorcycle_left retina rocket",
    ),
    "sklearn": ("datasets/images", "china flower"),
}
"""Real photographs inside well-known wheels, by package: the folder, and the names without their endings."""

_MOST = 25
_SIDE = 512


def photographs() -> Iterator[tuple[Path, bool]]:
    """Return the image files of the wheels, and whether each is one of the photographs whose copies are hidden."""
    for package, (folder, names) in _PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise UsageError(
                f"the demo's photographs are in the package {package}, which is not installed; use --images"
            )
        for file in sorted(Path(spec.submodule_search_locations[0], folder).iterdir()):
            if file.suffix in {".png", ".jpg"}:
                yield file, file.stem in names.split()


def _save(path: Path, content: bytes) -> None:
    """Write a file, unless it is there: what is not touched is not read again by ingest."""
    if not path.exists() or path.read_bytes() != content:
        storage.write(os.fspath(path), content)


def hide(folder: Path, images: str | None) -> tuple[list[str], list[str]]:
    """Make altered copies of photographs.

    Parameters
    ----------
    folder
        Where copies go, `folder/STEM--EDIT.png`.
    images
        A folder of one's own; None for the photographs in the wheels, which are put into `folder` as well.

    Returns
    -------
    tuple
        The photographs whose copies are hidden, and the locations that hold all images.
    """
    if images is None:
        chosen = []
        for file, original in photographs():
            _save(folder / file.name, file.read_bytes())
            if original:
                chosen.append(os.fspath(folder / file.name))
        locations = [os.fspath(folder)]
    else:
        chosen = [entry.path for entry in storage.listing(images) if entry.reject is None]
        locations = [storage.absolute(images), os.fspath(folder)]
    hidden: list[str] = []
    for path in chosen:
        if len(hidden) == _MOST:
            break
        try:
            photograph = open_upright(storage.read(path))
        except Reject:
            continue
        photograph.thumbnail((_SIDE, _SIDE))
        for edit, alter in EDITS.items():
            copy = io.BytesIO()
            alter(photograph).save(copy, "PNG", compress_level=1)
            _save(folder / f"{len(hidden):02d}-{Path(path).stem}--{edit}.png", copy.getvalue())
        hidden.append(path)
    if not hidden:
        raise UsageError(f"--images {images}: no images in it")
    return hidden, locations


def found(hidden: list[str], rows: dict[str, list[dict[str, Any]]]) -> dict[str, int]:
    """Return for each edit how many of the hidden photographs' copies were voted for when the photograph was asked."""
    counts = dict.fromkeys(EDITS, 0)
    for number, path in enumerate(hidden):
        voted = {Path(name).name for row in rows[path] for name in row["paths"]}
        for edit in EDITS:
            counts[edit] += f"{number:02d}-{Path(path).stem}--{edit}.png" in voted
    return counts
