"""How fast is DeDup, and what one would use instead? Side by side, in turn, round by round, on this machine.

Leaves OUTPUT/speed.json with every single time, speed.md with the table, and speed.svg with the plot.
docs/performance.md says what the rows are.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "lib"))

import speed_report as report  # noqa: E402 - what it imports is beside this file, not installed
from contest import Comparison, compete  # noqa: E402
from speed_memory import memory  # noqa: E402
from speed_rows import CONTESTANTS, ROWS  # noqa: E402

from dedup import job  # noqa: E402 - the library is beside this file, not installed
from dedup.arithmetic import PRECISIONS  # noqa: E402 - as above

PACKAGES = (
    *("pyspark", "ncnn", "openvino", "tensorflow", "keras", "numpy", "numba", "pyarrow", "pandas", "pillow", "scipy"),
    *("imagededup", "torch", "torchvision", "faiss-cpu"),
)


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = job.Parser("bench", __doc__ or "")
    rows = [*ROWS, "memory"]
    parser.add_argument("--only", default=",".join(rows), metavar="ROW,...", help="some of the rows: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="how often each runs (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "bench", help="data, logs, figures (default: %(default)s)"
    )
    parser.add_argument("--write-docs", action="store_true", help="put table and plot into README.md and docs/")
    parser.add_argument(
        "--from", nargs="+", type=Path, default=[], dest="earlier", metavar="JSON", help="measure nothing: show these"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="JPEG files for extract (default: made from a seed)")
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=PRECISIONS,
        default=["float32", "int8"],
        help="in extract, of DeDup and TensorFlow, and in memory (default: float32 int8; in extract, all together do "
        "not fit in 25 GB of memory)",
    )
    sizes = {
        "images": (1_536, "of extract"),
        "keras-images": (16, "of them one by one in Keras"),
        "rows": (92_424, "of the table that is queried"),
        "queries": (100, "of the row queries"),
        "slow-queries": (6, "of them under Lp in faiss, whose time is scaled"),
        "pairs-rounds": (1, "of the row pairs"),
        "imagededup-rows": (45_000, "up to which imagededup, which holds all pairs in memory, looks for them"),
    }
    for name, (default, what) in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what} (default: {default:,})")
    tables = {"pairs-rows": ([5_000, 20_000, 45_000, 92_424], "pairs"), "memory-rows": ([20_000, 92_424], "memory")}
    for name, (several, row) in tables.items():
        what = f"sizes of the tables of the row {row} (default: {' '.join(map(str, several))})"
        parser.add_argument(f"--{name}", type=int, nargs="+", default=several, metavar="N", help=what)
    options = parser.parse_args()
    options.only = options.only.split(",")
    if unknown := [row for row in options.only if row not in rows]:
        parser.error(f"--only {unknown[0]}: possible are {', '.join(rows)}")
    numbers = [getattr(options, name.replace("-", "_")) for name in sizes]
    if min(numbers + options.pairs_rows + options.memory_rows + [options.rounds]) < 1:
        parser.error("every size and number of rounds is at least 1")
    options.output = options.output.resolve()
    return options


def _field(file: str, pattern: str) -> str:
    found = re.search(pattern, Path(file).read_text(), re.MULTILINE)
    return found[1].strip() if found else "unknown"


def _processor() -> str:
    """Return its name, family and model: virtual machines have one name for many kinds."""
    name, family, model = (
        _field("/proc/cpuinfo", rf"^{field}\s*:(.*)$") for field in ("model name", "cpu family", "model")
    )
    return f"{name} (family {family}, model {model})"


def surroundings(options: argparse.Namespace) -> dict[str, Any]:
    """Return what figures depend on: machine, versions, commit, options."""
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout
    java = Path(os.environ.get("JAVA_HOME", ""), "bin/java") if os.environ.get("JAVA_HOME") else "java"
    said = subprocess.run([java, "-version"], capture_output=True, text=True).stderr
    version = re.search(r'"(.+?)"', said)
    versions = {"Python": platform.python_version(), "Java": version[1] if version else "unknown"}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.strip() or "unknown",
        "command": sys.argv,
        "options": {name: str(value) for name, value in vars(options).items()},
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory": 1024 * int(_field("/proc/meminfo", r"^MemTotal:\s*(\d+)")),
            "system": f"{platform.system()} {platform.release()}",
            "load": os.getloadavg(),
        },
        "versions": versions | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def environment() -> dict[str, str]:
    """Return the variables that contestants get: the library's sources, all cores of this process, and no GPU."""
    folders = [ROOT / "lib", ROOT / "benchmarks", CONTESTANTS]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "CUDA_VISIBLE_DEVICES": "-1",
        "MASTER": f"local[{len(os.sched_getaffinity(0))}]",
    }


def contest(comparison: Comparison, logs: Path) -> dict[str, Any]:
    """Let contestants compete, and show how far they are."""
    steps = len(comparison.entries) * (1 + comparison.rounds)
    with tqdm(total=steps, desc=comparison.title, unit=" runs") as bar:

        def show(told: str) -> None:
            if ": " in told:
                bar.write(told, file=sys.stderr)
            bar.set_postfix_str(told.partition(": ")[0])
            bar.update()

        return compete(comparison, logs, environment(), show)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all rows; leave the figures after each, so that a run that is stopped has those that it came to."""
    logs = options.output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    figures = surroundings(options) | {"comparisons": [], "memory": []}
    os.environ["MASTER"] = environment()["MASTER"]  # for the jobs that go through submit.sh from here
    for row in options.only:
        if row == "memory":
            jobs = len(options.precisions) + 2 * len(options.memory_rows)
            for peaks in tqdm(memory(options, logs), desc="memory", total=jobs, unit=" jobs"):
                figures["memory"].append(peaks)
                _keep(options.output, figures)
        else:
            for comparison in ROWS[row](options):
                figures["comparisons"].append(contest(comparison, logs))
                _keep(options.output, figures)
    return figures


def joined(files: list[Path]) -> dict[str, Any]:
    """Return the figures of several runs as those of one: of what two have measured, the later one's."""
    runs = [json.loads(file.read_text()) for file in files]
    comparisons = {one["title"]: one for run in runs for one in run["comparisons"]}
    peaks = {(one["job"], one["of"]): one for run in runs for one in run["memory"]}
    order = sorted(
        comparisons.values(), key=lambda one: (list(ROWS).index(one["row"]), len(one["title"]), one["title"])
    )
    last = {one["title"]: i for i, run in enumerate(runs) for one in run["comparisons"]}
    made = []
    for i, run in enumerate(runs):
        rows = dict.fromkeys(one["row"] for one in run["comparisons"] if last[one["title"]] == i)
        shown = {name: run[name] for name in ("date", "commit", "machine", "versions")}
        made.append(shown | {"of": [*rows, *(["memory"] if run["memory"] else [])]})
    joined: dict[str, Any] = runs[-1] | {"comparisons": order, "memory": list(peaks.values()), "runs": made}
    return joined


def _keep(output: Path, figures: dict[str, Any]) -> None:
    (output / "speed.json").write_text(json.dumps(figures, indent=1) + "\n")


def text(figures: dict[str, Any]) -> str:
    """Return all that was found, in Markdown."""
    comparisons, runs = figures["comparisons"], figures.get("runs", [figures])
    rows: dict[str, list[str]] = {}
    for run in runs:
        rows.setdefault(f"Measured on {report.machine(run)}", []).extend(run.get("of", ()))
    measured = [*rows] if len(rows) == 1 else [f"{', '.join(some)}: {said}" for said, some in rows.items()]
    parts = [
        *measured,
        report.table(comparisons) if comparisons else "",
        report.notes(comparisons),
        report.memory_table(figures["memory"]),
    ]
    return "\n".join(part for part in parts if part)


def main() -> None:
    """Parse, measure, show, keep."""
    options = parsed()
    options.output.mkdir(parents=True, exist_ok=True)
    figures = joined(options.earlier) if options.earlier else measure(options)
    _keep(options.output, figures)
    said, picture = text(figures), report.plot(figures["comparisons"])
    (options.output / "speed.md").write_text(said)
    (options.output / "speed.svg").write_bytes(picture)
    if options.write_docs:
        (ROOT / "docs" / "performance.svg").write_bytes(picture)
        inside = {"docs/performance.md": f"![Ratios as bars](performance.svg)\n\n{said}"}
        inside["README.md"] = f"![Ratios as bars](docs/performance.svg)\n\n{report.table(figures['comparisons'])}"
        for name, new in inside.items():
            file = ROOT / name
            file.write_text(report.between(file.read_text(), new))
    sys.stdout.write(f"\n{said}\n{options.output / 'speed.json'}\n")


if __name__ == "__main__":
    job.run(main)
