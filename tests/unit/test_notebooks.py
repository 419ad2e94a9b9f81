"""Notebooks hold nothing but prose, imports, calls and what these return."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.notebooks import cells
from tests.samples import ROOT

from dedup import notebook

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_only_imports_calls_and_displays(file: Path) -> None:
    first, *others = cells(file)
    assert first.startswith("# MAGIC %md\n# MAGIC # "), "a notebook says first what it is"
    for cell in [first, *others]:
        lines = cell.splitlines()
        if lines[0].startswith("# MAGIC"):
            assert lines[0] == "# MAGIC %md"
            assert all(line.startswith("# MAGIC") for line in lines)
        statements = ast.parse(cell).body
        assert all(isinstance(one, ast.Import | ast.ImportFrom | ast.Assign | ast.Expr) for one in statements)
        assert all(isinstance(one.value, ast.Call) for one in statements if isinstance(one, ast.Expr))


@pytest.mark.parametrize("preset", sorted((ROOT / "conf").glob("*.conf")), ids=lambda file: file.stem)
def test_a_notebook_sets_what_jobs_get_from_a_file(preset: Path) -> None:
    lines = [line for line in preset.read_text().splitlines() if line and not line.startswith("#")]
    assert notebook.PROPERTIES.items() <= dict(line.split(None, 1) for line in lines).items()
