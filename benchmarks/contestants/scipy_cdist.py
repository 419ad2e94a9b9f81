"""SciPy: `cdist` for each of five metrics on vectors in memory, by as many threads as there are cores.

SciPy's Dice is of booleans: it is asked whether numbers are above zero.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import serving
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

METRICS: dict[str, dict[str, Any]] = {"euclidean": {}, "cityblock": {}, "cosine": {}, "minkowski": {"p": 3}}
ROWS = 2048  # that a thread measures at a time: `cdist` makes a copy of them in float64
TOP = 5


def prepare() -> tuple[serving.Run, serving.Judge]:
    """Read the vectors; return the five distances to one query and their top lists, and the judge."""
    parser = serving.parser()
    parser.add_argument("--lake", type=Path, required=True)
    options = parser.parse_args()
    found = serving.vectors(options.lake)[1]
    above = found > 0
    query = serving.asked(found, 1)

    def measure(start: int) -> NDArray[np.float64]:
        rows = found[start : start + ROWS]
        far = [cdist(query, rows, name, **words)[0] for name, words in METRICS.items()]
        return np.stack([*far, cdist(query > 0, above[start : start + ROWS], "dice")[0]])

    pool = ThreadPoolExecutor(serving.cores())

    def run() -> NDArray[np.intp]:
        far = np.concatenate(list(pool.map(measure, range(0, len(found), ROWS))), axis=1)
        return np.argsort(far, axis=1)[:, :TOP]

    def judge(nearest: Any) -> dict[str, Any]:
        return {"count": 1, "check": int((nearest[:, 0] == 0).sum())}

    return run, judge


if __name__ == "__main__":
    serving.serve(prepare, warm_up="run")
