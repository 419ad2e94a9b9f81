"""faiss: exact searches with the table in memory, one for each of the four metrics that it has (it has no Dice)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import serving

TOP = 5


def prepare() -> tuple[serving.Run, serving.Judge]:
    """Read the vectors; return the four searches, and their judge."""
    parser = serving.parser()
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--queries", type=int, required=True)
    parser.add_argument("--slow", type=int, required=True, help="how many of them under Lp, whose time is scaled up")
    options = parser.parse_args()
    import faiss

    faiss.omp_set_num_threads(serving.cores())
    found = serving.vectors(options.lake)[1]
    queries = serving.asked(found, options.queries)
    index = faiss.IndexFlat(found.shape[1], faiss.METRIC_L2)  # one table for all metrics: what it holds is the same
    index.add(found)
    del found
    index.metric_arg = 3
    metrics = {
        "L2": (faiss.METRIC_L2, len(queries)),
        "inner product": (faiss.METRIC_INNER_PRODUCT, len(queries)),
        "L1": (faiss.METRIC_L1, len(queries)),
        "Lp": (faiss.METRIC_Lp, min(options.slow, len(queries))),
    }

    def run() -> tuple[dict[str, float], int]:
        took, itself = {}, 0
        for name, (metric, count) in metrics.items():
            index.metric_type = metric
            start = time.perf_counter()
            far, _ = index.search(queries[:count], TOP)
            took[name] = (time.perf_counter() - start) * len(queries) / count
            itself += int((far[:, 0] < 1e-3 * far[:, -1]).sum()) if name == "L1" else 0
        return took, itself

    def judge(result: Any) -> dict[str, Any]:
        took, itself = result
        return {"seconds": sum(took.values()), "count": len(queries), "check": itself, "each": took}

    return run, judge


if __name__ == "__main__":
    serving.serve(prepare)
