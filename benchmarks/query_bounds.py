"""How much of a table could a query leave unread, if it read short stand-ins for vectors first? Measured on features.

    python benchmarks/query_bounds.py --features OUT/pairs/features --images DIR/photos

Every fifth image is asked for. From the sketches that `deduplicate` has, 128 numbers for a vector, follow bounds of all
five distances; for Manhattan the sums of 128 pieces of the vectors are tried too. Prints for each metric the share of
the other images that may be among its five nearest by these bounds, and so have to be read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from quality import row, say, table

from dedup import sketches
from dedup.distances import DEFAULT_P, distances

FIRST = 5
STEP = 5
PIECES = 128
MANHATTAN = "manhattan, sums of pieces"


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--images", required=True, help="only those whose paths begin so")
    options = parser.parse_args()
    vector = {one["sha256"]: one["features"] for one in table(options.features, "features", ["sha256", "features"])}
    files = table(options.features, "images", ["path", "sha256"])
    some = sorted({one["sha256"] for one in files if one["path"].startswith(options.images)} & vector.keys())
    vectors = np.stack([np.frombuffer(vector[sha256], "<f4") for sha256 in some])
    count, width = vectors.shape

    code, length, total = sketches.encode(vectors, sketches.fit(vectors[::2]))
    pieces = vectors.astype(float).reshape(count, PIECES, -1).sum(axis=2)
    shares: dict[str, list[float]] = {}
    for asked in range(0, count, STEP):
        others = np.arange(count) != asked
        lengths = length**2 + length[asked] ** 2
        cosine = np.minimum(code @ code[asked], 1)
        squared = np.maximum(lengths - 2 * cosine * length * length[asked], 0)
        plain = np.maximum(np.sqrt(squared), abs(total - total[asked]))
        least = {
            "euclidean": np.sqrt(squared),
            "manhattan": plain,
            MANHATTAN: np.maximum(plain, abs(pieces - pieces[asked]).sum(axis=1)),
            "cosine": 1 - cosine,
            "minkowski": np.sqrt(squared) * width ** (1 / DEFAULT_P - 0.5),
            "dice": squared / lengths,
        }
        far = distances(vectors, vectors[asked : asked + 1])
        for name, bound in least.items():
            fifth = np.sort(far[name.partition(",")[0]][others, 0])[FIRST - 1]
            shares.setdefault(name, []).append(float((bound[others] <= fifth).mean()))
    say(f"{len(range(0, count, STEP))} of {count} images asked for\n")
    say(row("distance", "median", "1 of 20 queries less", "1 of 20 queries more"))
    say(row("---", "---:", "---:", "---:"))
    for name, found in shares.items():
        low, middle, high = np.percentile(found, [5, 50, 95])
        say(row(name, f"{middle:.0%}", f"{low:.0%}", f"{high:.0%}"))


if __name__ == "__main__":
    main()
