"""DeDup: the poll of five distances on a table of features, its results collected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import serving

from dedup import models, results
from dedup.distances import DEFAULT_P, METRICS
from dedup.queries import Queries


def prepare() -> tuple[serving.Run, serving.Judge]:
    """Start the session; return a poll for all queries, and its judge."""
    parser = serving.parser()
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--queries", type=int, required=True)
    options = parser.parse_args()
    queries = serving.asked(serving.vectors(options.lake)[1], options.queries)
    asked = Queries(tuple(f"query {number}" for number in range(len(queries))), queries)
    spark = serving.session(ours=True)
    location = str(options.lake)
    (made,) = models.of(location)

    def run() -> list[Any]:
        voted = results.results(spark, location, made, asked, results.DEFAULT_TOP, DEFAULT_P, tuple(METRICS))
        return list(voted.collect())

    def judge(rows: Any) -> dict[str, Any]:
        # Every query is a row of the table: each must come out first, with all votes and at distance 0.
        first = [row for row in rows if row["rank"] == 1]
        found = sum(row["votes"] == len(METRICS) and row["euclidean"] == 0 for row in first)
        return {"count": len(first), "check": found}

    return run, judge


if __name__ == "__main__":
    serving.serve(prepare, warm_up="run", times=5)
