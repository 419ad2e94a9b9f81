"""DeDup: the whole job through submit.sh, from start to end, with a search that misses no near pair."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import serving
from scale import stages


def prepare() -> tuple[serving.Run, serving.Judge]:
    """Return one job into a fresh place, and its judge."""
    parser = serving.parser()
    parser.add_argument("--lake", required=True)
    parser.add_argument("--thresholds", required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    number = itertools.count()

    def run() -> tuple[Path, float]:
        output = options.output / f"duplicates-{next(number)}"
        shutil.rmtree(output, ignore_errors=True)
        words = ["--features", options.lake, "--output", str(output), "--thresholds", options.thresholds]
        start = time.time()
        command = [str(serving.ROOT / "submit.sh"), "deduplicate", *words, "--search", "exact"]
        subprocess.run(command, check=True, stdout=sys.stderr)
        return output, start

    def judge(result: Any) -> dict[str, Any]:
        output, start = result
        took = stages(output, start)
        files = [str(file) for file in (output / "pairs").rglob("*.parquet")]
        pairs = ds.dataset(files, format="parquet").count_rows()
        shutil.rmtree(output)
        also = {"its sketches and pairs alone": took["sketches"] + took["pairs"]}
        return {"count": pairs, "check": pairs, "also": also, "stages": took}

    return run, judge


if __name__ == "__main__":
    serving.serve(prepare, warm_up="never")
