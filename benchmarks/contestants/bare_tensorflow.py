"""TensorFlow alone: the same network in its own operations, on pixels decoded in memory. No Spark, no files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import serving
from numpy.typing import NDArray

BATCH = 32


def prepare() -> tuple[serving.Run, serving.Judge]:
    """Decode the images; return the forward pass over all of them, and its judge."""
    parser = serving.parser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--precision", required=True)
    options = parser.parse_args()

    from dedup import engines, pixels, weights
    from dedup.arithmetic import Arithmetic

    flat = weights.load("seeded").flat
    predict = engines.ENGINES["tensorflow"].load(flat, Arithmetic(options.precision), BATCH, serving.cores())
    pictures = np.stack([pixels.decode(file.read_bytes()).pixels for file in sorted(options.images.iterdir())])

    def run() -> NDArray[np.float32]:
        return predict(pictures)

    def judge(found: Any) -> dict[str, Any]:
        return {"count": len(found), "check": float(found.mean())}

    return run, judge


if __name__ == "__main__":
    serving.serve(prepare)
