"""The tests under each release of Spark: `nox`; one: `nox -s "tests(4.1)"`; some of them: `nox -- tests/spark`."""

from __future__ import annotations

import re
from pathlib import Path

import nox

RELEASES = {"4.0": "4.0.5", "4.1": "4.1.4", "4.2": "4.2.0", "4.3": "4.3.0"}
"""What is supported, by the name that Spark's own packages give it; that of requirements.txt among them."""

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


@nox.session(venv_backend="venv")
@nox.parametrize("spark", [nox.param(release, id=release) for release in RELEASES])
def tests(session: nox.Session, spark: str) -> None:
    """Run the tests with the packages of requirements.txt, but with another PySpark and what that asks for."""
    others = re.sub(r"(?m)^(pyspark|py4j)==.*\n", "", REQUIREMENTS.read_text())
    pinned = Path(session.create_tmp()) / "requirements.txt"
    pinned.write_text(others)
    session.install("--requirement", str(pinned), f"pyspark=={RELEASES[spark]}")
    session.run("python", "-m", "pytest", *session.posargs)
