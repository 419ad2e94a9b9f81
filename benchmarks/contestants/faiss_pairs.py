"""faiss: `IndexFlatL2.range_search` of all vectors for each of them, within the Euclidean threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import serving
from numpy.typing import NDArray

from dedup import thresholds


def prepare() -> tuple[serving.Run, serving.Judge]:
    """Read the vectors; return the search, and its judge."""
    parser = serving.parser()
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--thresholds", required=True)
    options = parser.parse_args()
    import faiss

    faiss.omp_set_num_threads(serving.cores())
    within = thresholds.load(options.thresholds).within["euclidean"]
    found = serving.vectors(options.lake)[1]
    index = faiss.IndexFlatL2(found.shape[1])
    index.add(found)

    def run() -> NDArray[np.int64]:
        ends, _, _ = index.range_search(found, float(within**2))  # faiss knows squares of distances
        return np.asarray(ends, np.int64)

    def judge(ends: Any) -> dict[str, Any]:
        pairs = (int(ends[-1]) - len(found)) // 2  # every vector finds itself
        return {"count": pairs, "check": pairs}

    return run, judge


if __name__ == "__main__":
    serving.serve(prepare, warm_up="never")
