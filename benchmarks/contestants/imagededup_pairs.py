"""imagededup's `CNN().find_duplicates` on the same vectors: cosine similarity of all pairs, at the same threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import serving

from dedup import thresholds


def prepare() -> tuple[serving.Run, serving.Judge]:
    """Read the vectors; return the search, and its judge."""
    parser = serving.parser()
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--thresholds", required=True)
    options = parser.parse_args()
    import torch
    from imagededup.methods import CNN
    from imagededup.utils import CustomModel

    torch.set_num_threads(serving.cores())
    within = thresholds.load(options.thresholds).within["cosine"]
    encodings = dict(zip(*serving.vectors(options.lake), strict=True))
    # The network is not asked: it is there because the class wants one.
    cnn = CNN(verbose=False, model_config=CustomModel("none", torch.nn.Identity(), torch.nn.Identity()))

    def run() -> dict[str, list[str]]:
        similar = float(1 - within)
        workers = serving.cores()
        return dict(
            cnn.find_duplicates(encoding_map=encodings, min_similarity_threshold=similar, num_sim_workers=workers)
        )

    def judge(found: Any) -> dict[str, Any]:
        pairs = sum(map(len, found.values())) // 2
        return {"count": pairs, "check": pairs}

    return run, judge


if __name__ == "__main__":
    serving.serve(prepare, warm_up="never")
