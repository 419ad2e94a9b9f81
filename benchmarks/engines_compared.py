"""How fast is each engine, and how near to TensorFlow in float32? A table of docs/tuning.md.

    python benchmarks/engines_compared.py --data DIR

DIR holds `photos/`. Each engine computes the same photographs, decoded, in as many processes of one thread as there are
cores, which map the weights from one file, as workers do. Speeds are medians of rounds in which all take their turn.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality import photographs, row, say
from scipy.spatial.distance import cdist
from tqdm import tqdm
from worker_memory import status

from dedup import engines, pixels, storage, vgg16_model, weights
from dedup.arithmetic import Arithmetic

_TENSORFLOW = 8  # pictures in a batch, on a CPU

REFERENCE = ("tensorflow", "float32")
COMPARED = [
    REFERENCE,
    ("tensorflow", "bfloat16"),
    ("ncnn", "float32"),
    ("ncnn", "bfloat16"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
    ("openvino", "int8"),
]
_SPAWN = multiprocessing.get_context("spawn")


def compute(name: str, arithmetic: Arithmetic, folder: Path, together: Any, answers: Any) -> None:
    """Be one of the processes: load, begin together with the others, answer with features, seconds and memory."""
    flat = np.memmap(folder / "weights.f32", np.float32, "c")
    pictures = np.load(folder / "pictures.npy")
    engine = engines.ENGINES[name]
    predict = engine.load(flat, arithmetic, _TENSORFLOW if name == "tensorflow" else engine.batch_size, 1)
    predict(pictures[: engine.batch_size])
    together.wait()
    start = time.perf_counter()
    found = predict(pictures)
    seconds = time.perf_counter() - start
    now = status(Path("/proc/self"))
    answers.put((found, seconds, *(int(now[key].split()[0]) * 1024 / 1e9 for key in ("VmHWM", "RssAnon"))))


def measured(name: str, arithmetic: Arithmetic, folder: Path) -> tuple[NDArray[np.float32], float, float, float]:
    """Return features, images a second of all processes, and one's peak and own memory in GB."""
    count = len(os.sched_getaffinity(0))
    together, answers = _SPAWN.Barrier(count, timeout=600), _SPAWN.Queue()
    given = (name, arithmetic, folder, together, answers)
    processes = [_SPAWN.Process(target=compute, args=given, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    features, seconds, peak, own = zip(*found, strict=True)
    return features[0], count * len(features[0]) / max(seconds), max(peak), max(own)


def main() -> None:
    """Decode, let all take their turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    chosen = photographs(options.data)
    chosen = chosen[:: max(1, len(chosen) // options.images)][: options.images]
    seeded = weights.load("seeded")
    found: dict[tuple[str, str], list[Any]] = {both: [] for both in COMPARED}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeded.flat.tofile(folder / "weights.f32")
        np.save(folder / "pictures.npy", np.stack([pixels.decode(storage.read(str(path))).pixels for path in chosen]))
        arithmetics = {precision: vgg16_model.Vgg16Model(seeded, precision).arithmetic for _, precision in COMPARED}
        turns = [(both, number) for number in range(options.rounds) for both in COMPARED]
        for (engine, precision), _ in tqdm(turns, desc="compute"):
            found[engine, precision].append(measured(engine, arithmetics[precision], folder))
    exact, _, _, _ = found[REFERENCE][0]
    speed = {both: statistics.median(one[1] for one in several) for both, several in found.items()}
    say(row("engine", "images/s", "to TensorFlow", "largest error", "cosine distance: median, largest", "peak", "own"))
    say(row("---", *["---:"] * 6))
    for both, several in found.items():
        features, _, peak, own = several[0]
        apart = np.diag(cdist(exact, features, "cosine"))
        say(
            row(
                ", ".join(both),
                f"{speed[both]:.1f}",
                f"{speed[both] / speed[REFERENCE]:.2f}",
                f"{np.abs(features - exact).max() / exact.max():.0e}",
                f"{np.median(apart):.0e}, {apart.max():.0e}",
                f"{peak:.2f} GB",
                f"{own:.2f} GB",
            )
        )


if __name__ == "__main__":
    main()
