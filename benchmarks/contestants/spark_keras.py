"""The reference pattern for features on Spark: binaryFile, a scalar-iterator pandas UDF, Keras with broadcast weights.

As in Databricks' guide to featurization for transfer learning: the model is made once for each partition; there are as
many partitions as cores, the fewest that use them all.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import serving

BATCH = 32


def prepare() -> serving.Prepared:
    """Broadcast the weights; return reading, computing and writing, its judge, and the same for a few images."""
    parser = serving.parser()
    parser.add_argument("--images", required=True)
    parser.add_argument("--few", required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    import keras_network
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    spark = serving.session(ours=False)
    shutil.rmtree(options.output, ignore_errors=True)
    given, number = spark.sparkContext.broadcast(keras_network.seeded()), itertools.count()

    def featurize(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        import io

        import keras_network
        from keras.applications.vgg16 import preprocess_input
        from PIL import Image

        def pixels(content: bytes) -> Any:
            image = Image.open(io.BytesIO(content)).convert("RGB").resize((224, 224))
            return preprocess_input(np.asarray(image, np.float32))

        network = keras_network.build(given.value)
        for contents in batches:
            found = network.predict(np.stack([pixels(content) for content in contents]), batch_size=BATCH, verbose=0)
            yield pd.Series(list(found))

    # The hints of a function inside another one cannot be looked up by name: the type of the UDF is set by hand.
    featurize.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.Series]}
    udf = F.pandas_udf(featurize, T.ArrayType(T.FloatType()))

    def run(folder: str) -> Path:
        location = options.output / f"features-{next(number)}"
        files = spark.read.format("binaryFile").load(folder).repartition(serving.cores())
        files.select("path", udf("content").alias("features")).write.parquet(str(location))
        return location

    def judge(location: Any) -> dict[str, Any]:
        found = ds.dataset(location, format="parquet").to_table().column("features").combine_chunks()
        shutil.rmtree(location)
        return {"count": len(found), "check": float(found.flatten().to_numpy().mean())}

    return partial(run, options.images), judge, partial(run, options.few)


if __name__ == "__main__":
    serving.serve(prepare, warm_up="run")
