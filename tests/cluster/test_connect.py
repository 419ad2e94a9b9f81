"""A session without a SparkContext: Spark Connect, with its server in processes of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cluster.conftest import vectors
from tests.samples import ROOT, WEIGHTS

SCRIPT = """
import pathlib, sys, tempfile
from pyspark.sql import SparkSession

spark = SparkSession.builder.remote("local[2]").getOrCreate()
assert getattr(spark, "sparkContext", None) is None

from dedup import answers, counters, deduplication, delivery, extraction, images, models, summary, thresholds, weights
from dedup.vgg16_model import Vgg16Model

source, folder, asked = sys.argv[1:]
with delivery.described(spark, "outer, and"), delivery.described(spark, "inner"):
    assert spark.getTags() == {{"outer; and", "inner"}}
assert spark.getTags() == set()
model = Vgg16Model(weights.load("{weights}"), "float32")
print(images.ingest(spark, source, folder + "/table"))
print(extraction.extract(spark, folder + "/table", folder + "/features", model))
chosen = models.choose(folder + "/features", None, None)
known = answers.ask(spark, answers.Question(folder + "/features", [source], folder + "/known"), chosen)
new = answers.ask(spark, answers.Question(folder + "/features", [asked], folder + "/new"), chosen)
print(len(known.rows), "known,", len(new.rows[asked]), "results for a new one")
request = summary.Request(folder + "/features", folder + "/duplicates", thresholds.defaults())
print(counters.deduplicated(deduplication.deduplicate(spark, request)).sums[0])
folders = pathlib.Path(tempfile.gettempdir()).glob("spark-*/userFiles-*/*/*.f32")
print(len(list(folders)), "files of weights")
spark.stop()
"""


@pytest.mark.slow
def test_jobs_without_a_spark_context(images: Path, local: Path, environment: dict[str, str], tmp_path: Path) -> None:
    from tests.samples import picture

    asked = tmp_path / "asked.png"
    picture(3, (130, 110)).rotate(3).save(asked)
    some = images / "set 0"
    env = environment | {"PYTHONPATH": str(ROOT / "lib"), "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(weights=WEIGHTS), str(some), str(tmp_path), str(asked)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    if done.returncode:
        pytest.fail(done.stderr[-3000:])
    assert "30 known," in done.stdout
    assert "1 files of weights" in done.stdout, "on the disk of the executor"
    assert "files = 30 keep + 0 drop + 0 review + 0 rejected" in done.stdout
    made = vectors(tmp_path / "features")
    assert len(made) == 30
    assert made.items() <= vectors(local / "features").items(), "the same bytes as a classic session's"
