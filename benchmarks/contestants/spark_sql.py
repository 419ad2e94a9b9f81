"""Spark's own SQL: one distance, vector_l2_distance, on a Parquet table with ARRAY<FLOAT>, written once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import serving

TOP = 5


def unpacked(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Turn binary features into lists of float32."""
    for batch in batches:
        values = np.frombuffer(b"".join(batch.column("features").to_pylist()), "<f4")
        ends = np.arange(0, len(values) + 1, 4096, dtype=np.int32)
        lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(values))
        yield pa.RecordBatch.from_arrays([batch.column("sha256"), lists], names=["sha256", "features"])


def prepare() -> tuple[serving.Run, serving.Judge]:
    """Write the table unless it is there; return the statement, and its judge."""
    parser = serving.parser()
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True, help="where the table with ARRAY<FLOAT> is kept")
    options = parser.parse_args()
    (query,) = serving.asked(serving.vectors(options.lake)[1], 1)
    spark = serving.session(ours=False)
    if not (options.table / "_SUCCESS").exists():
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "256")
        packed = spark.read.parquet(*serving.parquet(options.lake)).select("sha256", "features")
        made = packed.mapInArrow(unpacked, "sha256 string, features array<float>")
        made.write.mode("overwrite").parquet(str(options.table))
    spark.read.parquet(str(options.table)).createOrReplaceTempView("images")

    def run() -> list[Any]:
        statement = "SELECT sha256, vector_l2_distance(features, :query) AS distance FROM images"
        return list(spark.sql(f"{statement} ORDER BY distance LIMIT {TOP}", {"query": query}).collect())

    def judge(rows: Any) -> dict[str, Any]:
        return {"count": len(rows), "check": rows[0]["distance"]}

    return run, judge


if __name__ == "__main__":
    serving.serve(prepare, warm_up="run", times=5)
