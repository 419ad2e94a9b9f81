"""Which releases of Spark jobs begin under, and that all places that name them agree."""

from __future__ import annotations

import logging
import runpy
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyspark
import pytest
from packaging.requirements import Requirement
from tests.libraries import RELEASES

from dedup import job, notebook, releases
from dedup.errors import UsageError


def session(version: str) -> Any:
    return SimpleNamespace(version=version, conf={})


def test_all_places_name_the_same_releases(root: Path) -> None:
    assert tuple(RELEASES) == releases.TESTED
    versions = [of["pyspark"] for of in RELEASES.values()]
    assert [version.rpartition(".")[0] for version in versions] == list(RELEASES)
    requirements = (root / "requirements.txt").read_text().splitlines()
    assert len({f"pyspark=={version}" for version in versions} & set(requirements)) == 1
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    (asked,) = project["optional-dependencies"]["spark"]
    assert list(Requirement(asked).specifier.filter(["3.5.9", *versions, "4.4.0"])) == versions


@pytest.mark.parametrize("version", ["3.5.9", "3.5.2+databricks.connect.16.4.1", "2.4.8", "3.10.0"])
def test_a_session_that_is_too_old_is_bad_use(version: str) -> None:
    with pytest.raises(UsageError, match=r"^Spark .* is too old: possible are 4\.0, 4\.1, 4\.2, 4\.3 \("):
        releases.require(session(version))


@pytest.mark.parametrize("version", ["4.0.0", "4.1.2-amzn-0", "4.3.0.dev1", "4.3.7"])
def test_nothing_is_said_of_a_release_that_is_tested(version: str, caplog: pytest.LogCaptureFixture) -> None:
    releases.require(session(version))
    assert caplog.messages == []


@pytest.mark.parametrize("version", ["4.4.0", "4.10.1", "5.0.0"])
def test_a_newer_release_is_a_warning(version: str, caplog: pytest.LogCaptureFixture) -> None:
    releases.require(session(version))
    assert caplog.messages == [f"Spark {version} is newer than what DeDup is tested with: 4.0, 4.1, 4.2, 4.3"]
    assert caplog.records[0].levelno == logging.WARNING


def test_an_old_pyspark_ends_a_job_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pyspark, "__version__", "3.5.9")
    with pytest.raises(SystemExit) as ended:
        job.run(lambda: pytest.fail("it has begun"))
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: PySpark 3.5.9 is too old: possible are 4.0, 4.1, 4.2, 4.3 (docs/running.md)\n"
    )


def test_a_notebook_begins_with_the_same_question() -> None:
    with pytest.raises(UsageError, match=r"Spark 3\.5\.9 is too old"):
        notebook.prepare(session("3.5.9"))


def test_an_old_python_is_told_what_is_needed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))
    with pytest.raises(ImportError, match=r"DeDup needs Python 3\.11 or newer"):
        runpy.run_path(str(root / "lib" / "dedup" / "__init__.py"))
