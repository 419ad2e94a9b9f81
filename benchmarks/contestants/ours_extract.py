"""DeDup: `extract --images`, files become the table of features, all counts checked at the end."""

from __future__ import annotations

import itertools
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import serving

from dedup import extraction, vgg16_model, weights


def prepare() -> serving.Prepared:
    """Load the network; return one extract of the files into a fresh place, its judge, and one of a few."""
    parser = serving.parser()
    parser.add_argument("--images", required=True)
    parser.add_argument("--few", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--precision", required=True)
    options = parser.parse_args()
    spark = serving.session(ours=True)
    shutil.rmtree(options.output, ignore_errors=True)
    number = itertools.count()
    network = vgg16_model.Vgg16Model(weights.load("seeded"), options.precision)

    def run(images: str) -> tuple[Path, extraction.Extracted]:
        location = options.output / f"features-{next(number)}"
        with extraction.begun(spark, images, str(location), network, None) as begun:
            begun.take()
            return location, begun.extract()

    def judge(result: Any) -> dict[str, Any]:
        location, done = result
        found = ds.dataset(serving.parquet(location), format="parquet").to_table(columns=["features"])
        mean = np.frombuffer(b"".join(found.column("features").to_pylist()), "<f4").mean()
        shutil.rmtree(location)
        return {"count": done.described, "check": float(mean)}

    return partial(run, options.images), judge, partial(run, options.few)


if __name__ == "__main__":
    serving.serve(prepare, warm_up="run")
