"""The row `memory` of speed.py: the peaks of DeDup's processes, by job, through submit.sh."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speed_rows import images, lake
from synthetic import Lake
from worker_memory import KINDS, watch

SUBMIT = Path(__file__).resolve().parents[1] / "submit.sh"


def _peaks(job: str, of: str, words: list[str], log: Path) -> dict[str, Any]:
    command = [str(SUBMIT), job, *words]
    code, peaks = watch(command, log)
    largest = {
        kind: 1024 * max((peak["VmHWM"] for (name, _), peak in peaks.items() if name == kind), default=0)
        for kind in KINDS
    }
    return {"job": job, "of": of, "command": command, "peaks": largest, "error": f"exit code {code}" if code else None}


def memory(options: argparse.Namespace, logs: Path) -> Iterator[dict[str, Any]]:
    """Run extract, and query and deduplicate on tables of several sizes."""
    output = Path(options.output / "memory")
    shutil.rmtree(output, ignore_errors=True)
    folder = images(options)
    count = len(list(folder.iterdir()))
    table = ["--table", str(output / "table")]
    subprocess.run([str(SUBMIT), "ingest", "--images", str(folder), *table], check=True, stdout=subprocess.DEVNULL)
    for precision in options.precisions:
        extract = [*table, "--features", str(output / precision), "--weights", "seeded", "--precision", precision]
        yield _peaks("extract", f"{count:,} images, {precision}", extract, logs / f"memory-extract-{precision}.txt")
    for rows in sorted(options.memory_rows):
        at, within = lake(options, rows)
        query = ["--features", str(at), "--query", Lake(rows).sha256(0), "--report", str(output / "report")]
        yield _peaks("query", f"{rows:,} rows", query, logs / f"memory-query-{rows}.txt")
        found = ["--output", str(output / f"duplicates-{rows}"), "--thresholds", str(within), "--search", "exact"]
        words = ["--features", str(at), *found]
        yield _peaks("deduplicate", f"{rows:,} rows", words, logs / f"memory-deduplicate-{rows}.txt")
    shutil.rmtree(output)
