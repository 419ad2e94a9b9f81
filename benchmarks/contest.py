"""Contestants as processes: started once, told to run in turn, ended. How rounds are interleaved for speed.py."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = 2 * 3600.0  # seconds for one answer
_LEAVING = 60.0  # seconds for a contestant and what it started, to end


@dataclass(frozen=True)
class Entry:
    """One contestant of a comparison."""

    name: str
    about: str  #: what it does, and what is different about it
    command: list[str]


@dataclass(frozen=True)
class Comparison:
    """Contestants that are measured side by side, ours first."""

    row: str  #: the word for --only
    title: str
    unit: str  #: "images/s", where more is better, or "s"
    rounds: int
    entries: list[Entry]


def rotated(items: Sequence[T], turn: int) -> list[T]:
    """Return items in the same order, from another one on in each turn: nobody always comes after the same load.

    >>> rotated("abc", 1)
    ['b', 'c', 'a']
    """
    start = turn % max(1, len(items))
    return [*items[start:], *items[:start]]


class Contestant:
    """A process that answers `run` with a line of JSON; what it says otherwise goes to a log."""

    def __init__(self, entry: Entry, log: Path, environment: Mapping[str, str]) -> None:
        self.entry = entry
        self.answers: list[dict[str, Any] | None] = []
        self.error: str | None = None
        self._log = log
        with log.open("w") as said:
            self._process = subprocess.Popen(
                entry.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=dict(environment),
                start_new_session=True,
            )
        self._listen()  # until it is warm

    def run(self) -> None:
        """Run once, and keep the answer; None, once the contestant has failed."""
        if self.error is None:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended: there is no answer either
                self._process.stdin.write("run\n")
                self._process.stdin.flush()
            self.answers.append(self._listen())
        else:
            self.answers.append(None)

    def _listen(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _PATIENCE)
        line = self._process.stdout.readline() if ready else ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        if not ready:  # it may be computing still, beside those that are measured next
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        said = [text for text in self._log.read_text(errors="replace").splitlines() if text.strip()]
        self.error = said[-1].strip()[:300] if said and ready else "no answer"
        return None

    def end(self) -> None:
        """Let it end, with all that it has started; after a while end them."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        until = time.monotonic() + _LEAVING
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < until:
                self._process.poll()
                os.killpg(self._process.pid, 0)
                time.sleep(0.1)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def figures(self) -> list[dict[str, Any]]:
        """Return what was measured: of the contestant, and of each step that it has timed besides."""
        entry = self.entry
        whole: dict[str, Any] = {
            "name": entry.name,
            "about": entry.about,
            "command": entry.command,
            "error": self.error,
        }
        found = [whole | {"answers": self.answers}]
        names = dict.fromkeys(name for answer in self.answers if answer for name in answer.get("also", {}))
        for name in names:
            answers = [answer | {"seconds": answer["also"][name]} if answer else None for answer in self.answers]
            found.append(whole | {"name": f"{entry.name}: {name}", "answers": answers})
        return found


def compete(
    comparison: Comparison, logs: Path, environment: Mapping[str, str], show: Callable[[str], None]
) -> dict[str, Any]:
    """Start all contestants, let them run in turn, round by round, and end them.

    Parameters
    ----------
    comparison
        Who, and how often.
    logs
        The folder for what they say.
    environment
        Their environment variables.
    show
        Called with the name of each contestant after its start and after each run, and with the text of its error.
    """
    contestants: list[Contestant] = []
    try:
        for entry in comparison.entries:
            name = re.sub(r"\W+", "-", f"{comparison.title} {entry.name}")
            contestants.append(Contestant(entry, logs / f"{name}.txt", environment))
            show(_told(contestants[-1]))
        for turn in range(comparison.rounds):
            for contestant in rotated(contestants, turn):
                contestant.run()
                show(_told(contestant))
    finally:
        for contestant in contestants:
            contestant.end()
    figures = [figure for contestant in contestants for figure in contestant.figures()]
    return {
        "row": comparison.row,
        "title": comparison.title,
        "unit": comparison.unit,
        "rounds": comparison.rounds,
        "contestants": figures,
    }


def _told(contestant: Contestant) -> str:
    return contestant.entry.name + (f": {contestant.error}" if contestant.error else "")
