"""Run a job and print the peak memory of its processes: python benchmarks/worker_memory.py ./submit.sh extract ...

Linux keeps the peak of each process (VmHWM in /proc); this looks until the job ends. Of a Python worker, what it maps
from files (the weights, the code of libraries) counts as its own, though workers share it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

KINDS = ("JVM", "driver's Python", "Python worker")


def status(process: Path) -> dict[str, str]:
    """Return the fields of a process's status; none if it is gone."""
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split(":", 1) for line in lines if ":" in line)


def descendants(root: int) -> list[Path]:
    """Return the processes that a process started, and theirs."""
    parents = {process: status(process).get("PPid", "0").strip() for process in Path("/proc").glob("[0-9]*")}
    found, family = [Path(f"/proc/{root}")], {str(root)}
    for process in sorted(parents, key=lambda process: int(process.name)):
        if parents[process] in family:
            family.add(process.name)
            found.append(process)
    return found


def kind(process: Path) -> str:
    """Return what a process is in a job, one of KINDS; nothing if it is gone."""
    try:
        command = (process / "cmdline").read_text()
    except OSError:
        return ""
    if "pyspark.daemon" in command or "pyspark.worker" in command:
        return "Python worker"
    return "driver's Python" if "/jobs/" in command and "java" not in command.split("\0")[0] else "JVM"


def watch(command: list[str], said: Path | None = None) -> tuple[int, dict[tuple[str, str], dict[str, int]]]:
    """Run a command to its end; what it says goes to a file, if one is given.

    Returns
    -------
    tuple
        Its exit code, and for each process, by its kind and number, the peaks of its memory in KiB: VmHWM, of all, and
        RssAnon and RssFile, of its own and of what it maps from files.
    """
    peaks: dict[tuple[str, str], dict[str, int]] = {}
    with said.open("w") if said else nullcontext() as out:
        job = subprocess.Popen(command, stdout=out)
        while job.poll() is None:
            for process in descendants(job.pid):
                fields = status(process)
                if "VmHWM" in fields and (name := kind(process)):
                    now = {key: int(fields[key].split()[0]) for key in ("VmHWM", "RssAnon", "RssFile")}
                    before = peaks.setdefault((name, process.name), now)
                    peaks[name, process.name] = {key: max(before[key], now[key]) for key in now}
            time.sleep(0.2)
    return job.returncode, peaks


def main() -> int:
    """Run the command, watch, print."""
    code, peaks = watch(sys.argv[1:])
    for (name, number), peak in sorted(peaks.items()):
        if peak["VmHWM"] > 200_000:
            shown = ", ".join(f"{key} {kib * 1024 / 1e9:.2f} GB" for key, kib in peak.items())
            sys.stdout.write(f"{name} {number}: {shown}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
