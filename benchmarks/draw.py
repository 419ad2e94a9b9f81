"""Write a synthetic lake as the tables that extract leaves, for scale.py, which calls it through submit.sh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from synthetic import BLOCK, MODEL, Lake

from dedup import images, job, models, stores, tables
from dedup.batches import ddl
from dedup.rounds import BUCKET_FILES

_PART = 256  # blocks of a part of the table: 1 GiB
_TASK = 8  # blocks of a task

_DRAWN = {
    "sha256": pa.string(),
    "features": pa.binary(),
    "width": pa.int32(),
    "height": pa.int32(),
    "format": pa.string(),
    "pixels": pa.string(),
    "model": pa.string(),
    "bucket": pa.int32(),
}


def _draw(batches: Iterator[pa.RecordBatch], lake: Lake) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for number in batch.column("id").to_pylist():
            rows, vectors = lake.block(number)
            hashes = [lake.sha256(row) for row in rows]
            flat = pa.array([vector.tobytes() for vector in vectors], pa.binary())
            sides = pa.array(600 + 40 * (rows % 60), pa.int32())
            ones = [len(rows) * [value] for value in ("JPEG", MODEL)]
            bucket = pa.array(rows // BUCKET_FILES, pa.int32())
            columns = [pa.array(hashes), flat, sides, sides, pa.array(ones[0]), pa.array(hashes), pa.array(ones[1])]
            yield pa.RecordBatch.from_arrays([*columns, bucket], names=list(_DRAWN))


def _images(spark: SparkSession, lake: Lake, copies: int) -> DataFrame:
    file = F.col("id")
    row = F.floor(file / copies)
    return spark.range(lake.rows * copies).select(
        F.format_string("/synthetic/%03d/%08d.jpg", file % 100, file).alias("path"),
        F.sha2(F.concat_ws("/", F.lit(lake.seed), F.lit(lake.rows), row), 256).alias("sha256"),
        (50_000 + row * 7919 % 1_000_000).alias("length"),
        F.timestamp_seconds(1_600_000_000 + file).alias("modified"),
        F.lit(None).cast("binary").alias("content"),
        F.floor(row / BUCKET_FILES).cast("int").alias("bucket"),
    )


def main() -> None:
    """Draw the lake: images without bytes, features, rejects, and the word of the model."""
    parser = job.Parser("../benchmarks/draw", "Write a synthetic lake; scale.py calls this.")
    parser.add_argument("--rows", type=job.positive, required=True)
    parser.add_argument("--copies", type=job.positive, default=1, help="how many files each row has")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", required=True, metavar="URI", help="where the tables go")
    options = parser.parse_args()
    spark = job.session("draw")
    location, lake = stores.absolute(options.features), Lake(options.rows, options.seed)
    made = models.Made(MODEL, "synthetic", "float32", (), complete=False)
    made.save(location)
    tables.replace(_images(spark, lake, options.copies), location, "images")
    tables.replace(spark.createDataFrame([], tables.SCHEMAS["rejects"]), location, "rejects")
    for first in range(0, lake.blocks, _PART):
        last = min(first + _PART, lake.blocks)
        blocks = spark.range(first, last, 1, -(-(last - first) // _TASK))
        tables.append(blocks.mapInArrow(partial(_draw, lake=lake), ddl(_DRAWN)), location, "features")
        job.say(f"{min(last * BLOCK, lake.rows):,} of {lake.rows:,} rows")
    replace(made, complete=True, listed=tables.version(location, *images.LISTED)).save(location)


if __name__ == "__main__":
    job.run(main)
