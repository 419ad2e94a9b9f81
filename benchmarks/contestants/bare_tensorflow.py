"""TensorFlow alone: the same network in its own operations, on pixels decoded in memory. No Spark, no files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import serving
from numpy.typing import NDArray

BATCH = 32
BLOCKS = (2, 2, 3, 3, 3)


def prepare() -> tuple[serving.Run, serving.Judge]:
    """Decode the images; return the forward pass over all of them, and its judge."""
    parser = serving.parser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--precision", required=True)
    options = parser.parse_args()
    import tensorflow as tf

    from dedup import pixels, vgg16, weights

    tf.config.threading.set_intra_op_parallelism_threads(serving.cores())
    tf.config.threading.set_inter_op_parallelism_threads(1)
    kind = tf.as_dtype(options.precision)
    given = {
        "/".join(key): tf.cast(tf.constant(value), kind)
        for key, value in vgg16.tensors(weights.load("seeded").flat).items()
    }
    pictures = np.stack([pixels.decode(file.read_bytes()).pixels for file in sorted(options.images.iterdir())])

    @tf.function(reduce_retracing=True)
    def forward(batch: Any, given: Any) -> Any:
        x = tf.cast(tf.cast(batch, tf.float32)[..., ::-1] - tf.constant([103.939, 116.779, 123.68]), kind)
        for block, layers in enumerate(BLOCKS, 1):
            for layer in range(1, layers + 1):
                name = f"block{block}_conv{layer}"
                x = tf.nn.conv2d(x, given[f"{name}/kernel"], strides=1, padding="SAME")
                x = tf.nn.relu(tf.nn.bias_add(x, given[f"{name}/bias"]))
            x = tf.nn.max_pool2d(x, ksize=2, strides=2, padding="VALID")
        x = tf.reshape(x, (tf.shape(x)[0], 7 * 7 * 512))
        for name in ("fc1", "fc2"):
            x = tf.nn.relu(tf.matmul(x, given[f"{name}/kernel"]) + given[f"{name}/bias"])
        return tf.cast(x, tf.float32)

    def run() -> NDArray[np.float32]:
        starts = range(0, len(pictures), BATCH)
        found = [forward(tf.constant(pictures[start : start + BATCH]), given).numpy() for start in starts]
        return np.concatenate(found)

    def judge(found: Any) -> dict[str, Any]:
        return {"count": len(found), "check": float(found.mean())}

    return run, judge


if __name__ == "__main__":
    serving.serve(prepare)
