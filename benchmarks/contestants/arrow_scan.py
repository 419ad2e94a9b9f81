"""pyarrow: read hashes and vectors of the same Parquet files, nothing else. No query can be faster than its scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import serving


def prepare() -> tuple[serving.Run, serving.Judge]:
    """Find the files; return the scan, and its judge."""
    parser = serving.parser()
    parser.add_argument("--lake", type=Path, required=True)
    options = parser.parse_args()
    pa.set_cpu_count(serving.cores())
    files = ds.dataset(serving.parquet(options.lake), format="parquet")

    def run() -> tuple[int, int]:
        rows = size = 0
        for batch in files.to_batches(columns=["sha256", "features"]):
            rows, size = rows + len(batch), size + batch.nbytes
        return rows, size

    def judge(result: Any) -> dict[str, Any]:
        rows, size = result
        return {"count": rows, "check": size}

    return run, judge


if __name__ == "__main__":
    serving.serve(prepare, warm_up="run")
