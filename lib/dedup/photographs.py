"""Real photographs inside well-known packages: the demo's, and those that int8 is fitted to."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from dedup.errors import UsageError

_PHOTOGRAPHS = {
    "skimage": (
        "data",
        "astronaut camera cell chelsea coffee coins hubble_deep_field ihc moon motorcycle_left retina rocket",
    ),
    "sklearn": ("datasets/images", "china flower"),
}
"""By package: the folder, and the names of photographs without their endings."""


def files() -> Iterator[tuple[Path, bool]]:
    """Return the image files of the packages, and whether each is a photograph: the others are small, or drawn.

    Raises
    ------
    UsageError
        If a package is not installed.
    """
    for package, (folder, names) in _PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise UsageError(f"photographs are needed that are in the package {package}, which is not installed")
        for file in sorted(Path(spec.submodule_search_locations[0], folder).iterdir()):
            if file.suffix in {".png", ".jpg"}:
                yield file, file.stem in names.split()
