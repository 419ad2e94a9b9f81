"""imagededup: `CNN().encode_images`, its default network and transform, with random weights: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import serving


def prepare() -> tuple[serving.Run, serving.Judge]:
    """Build the network; return the encoding of the folder, and its judge."""
    parser = serving.parser()
    parser.add_argument("--images", required=True)
    options = parser.parse_args()
    import torch
    from imagededup.methods import CNN
    from imagededup.utils import CustomModel
    from imagededup.utils.models import MobilenetV3
    from torchvision import models

    class Network(MobilenetV3):
        """`MobilenetV3` as it is, but for the weights."""

        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            whole = models.mobilenet_v3_small(weights=None).eval()
            self.mobilenet_gap_op = torch.nn.Sequential(whole.features, whole.avgpool)

    torch.set_num_threads(serving.cores())
    torch.manual_seed(0)
    network = Network().eval()
    cnn = CNN(verbose=False, model_config=CustomModel(f"random {Network.name}", network, Network.transform))

    def run() -> dict[str, Any]:
        return dict(cnn.encode_images(image_dir=options.images))

    def judge(found: Any) -> dict[str, Any]:
        return {"count": len(found), "check": float(np.mean(list(found.values())))}

    return run, judge


if __name__ == "__main__":
    serving.serve(prepare)
