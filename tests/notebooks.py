"""A notebook in Databricks' source format, and what stands in for a Databricks runtime when its cells are executed.

python -m tests.notebooks ADDRESS [NOTEBOOK WIDGETS]... runs them in a session of Spark Connect at the address, each
with the values of its widgets as JSON, and writes what they display.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pyspark.sql import DataFrame, SparkSession

HEADER = "# Databricks notebook source\n"
MARK = "---- a notebook"


def cells(notebook: Path) -> list[str]:
    """Return the cells of a notebook."""
    text = notebook.read_text()
    assert text.startswith(HEADER)
    return [cell.strip() for cell in text.removeprefix(HEADER).split("\n# COMMAND ----------\n")]


class Widgets:
    """The boxes above a notebook: a value that was given goes before the default that the notebook declares."""

    def __init__(self, given: dict[str, str]) -> None:
        self._given, self._declared = given, dict[str, str]()

    def text(self, name: str, default: str, label: str) -> None:
        """Declare a box for a text."""
        self._declared[name] = default

    def dropdown(self, name: str, default: str, choices: list[str], label: str) -> None:
        """Declare a box with some choices."""
        assert default in choices
        self._declared[name] = default

    def get(self, name: str) -> str:
        """Return the value of a box that is there."""
        return {name: self._given.get(name, default) for name, default in self._declared.items()}[name]


def display(rows: DataFrame) -> None:
    """Write the columns of rows, and how many there are."""
    sys.stdout.write(f"table of {len(rows.collect())} rows: {', '.join(rows.columns)}\n")


def display_html(page: str) -> None:
    """Write the title of a page that is whole."""
    assert page.rstrip().endswith("</html>")
    (title,) = re.findall("<title>(.*?)</title>", page)
    sys.stdout.write(f"page: {title}\n")


def main(address: str, *words: str) -> None:
    """Execute the cells of notebooks in order."""
    spark = SparkSession.builder.remote(address).getOrCreate()
    for notebook, given in zip(words[::2], words[1::2], strict=True):
        sys.stdout.write(f"{MARK}\n")
        names: dict[str, Any] = {
            "spark": spark,
            "dbutils": SimpleNamespace(widgets=Widgets(json.loads(given))),
            "display": display,
            "displayHTML": display_html,
        }
        for number, cell in enumerate(cells(Path(notebook))):
            exec(compile(cell, f"{notebook}, cell {number}", "exec"), names)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
