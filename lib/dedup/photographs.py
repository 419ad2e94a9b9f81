"""Real photographs inside well-known packages: the demo's, and those that int8 is fitted to."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from dedup.errors import UsageError

_PHOTOGRAPHS = {
    "scikit-image": (
        "skimage/data",
        "astronaut.png camera.png cell.png chelsea.png coffee.png coins.png hubble_deep_field.jpg ihc.png moon.png "
        "motorcycle_left.png retina.jpg rocket.jpg",
    ),
    "scikit-learn": ("sklearn/datasets/images", "china.jpg flower.jpg"),
}
"""By package: its folder, and the names of the photographs in it; the other images there are small, or drawn."""


def _folders() -> dict[str, Path]:
    found = {}
    for package, (folder, _) in _PHOTOGRAPHS.items():
        module, _, rest = folder.partition("/")
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise UsageError(f"photographs inside {package} are needed, which is not installed: pip install {package}")
        found[package] = Path(spec.submodule_search_locations[0], rest)
    return found


def files() -> list[Path]:
    """Return all image files of the packages.

    Raises
    ------
    UsageError
        If a package is not installed.
    """
    found = [file for folder in _folders().values() for file in sorted(folder.iterdir())]
    return [file for file in found if file.suffix in {".png", ".jpg"}]


def named() -> list[Path]:
    """Return the photographs among them.

    Raises
    ------
    UsageError
        If a package is not installed, or has one of them no more.
    """
    folders = _folders()
    found = [folders[package] / name for package, (_, names) in _PHOTOGRAPHS.items() for name in names.split()]
    if gone := next((file for file in found if not file.exists()), None):
        raise UsageError(f"{gone}: a photograph that is needed is not there")
    return found
