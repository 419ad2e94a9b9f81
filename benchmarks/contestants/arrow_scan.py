"""pyarrow: read hashes and vectors of the same Parquet files, nothing else. No query can be faster than its scan."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import serving


def prepare() -> tuple[serving.Run, serving.Judge]:
    """Find the files; return the scan, and its judge."""
    parser = serving.parser()
    parser.add_argument("--lake", type=Path, required=True)
    options = parser.parse_args()
    files = serving.parquet(options.lake)

    def judge(result: Any) -> dict[str, Any]:
        rows, size = result
        return {"count": rows, "check": size}

    return partial(serving.scan, files), judge


if __name__ == "__main__":
    serving.serve(prepare, warm_up="run")
