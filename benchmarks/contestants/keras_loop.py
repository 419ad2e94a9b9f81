"""Keras as its documentation shows it: one file at a time, load_img, preprocess_input, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import serving
from numpy.typing import NDArray


def prepare() -> tuple[serving.Run, serving.Judge]:
    """Build the network; return the loop over the first files, and its judge."""
    parser = serving.parser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--most", type=int, required=True, help="how many files: it is slow, and all cost the same")
    options = parser.parse_args()
    import keras
    import keras_network
    from keras.applications.vgg16 import preprocess_input

    network = keras_network.build(keras_network.seeded())
    files = sorted(options.images.iterdir())[: options.most]

    def run() -> list[NDArray[np.float32]]:
        found = []
        for file in files:
            image = keras.utils.load_img(file, target_size=(224, 224))
            pixels = preprocess_input(keras.utils.img_to_array(image))
            found.append(network.predict(pixels[None], verbose=0)[0])
        return found

    def judge(found: Any) -> dict[str, Any]:
        return {"count": len(found), "check": float(np.mean(found))}

    return run, judge


if __name__ == "__main__":
    serving.serve(prepare)
