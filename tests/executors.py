"""What executors on CPUs need, by conf/executors.txt."""

from __future__ import annotations

from importlib.metadata import Distribution, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.samples import ROOT


def needed() -> dict[str, Distribution]:
    """Return the packages that pip would install from conf/executors.txt, as they are installed here."""
    lines = (ROOT / "conf" / "executors.txt").read_text().splitlines()
    names = [line for line in lines if not line.startswith(("#", "--"))]
    found: dict[str, Distribution] = {}
    while names:
        name = canonicalize_name(names.pop())
        if name not in found:
            found[name] = distribution(name)
            asked = map(Requirement, found[name].requires or ())
            names += [one.name for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found
