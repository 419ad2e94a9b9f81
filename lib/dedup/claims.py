"""One run at a time on an output: whoever writes there keeps a file that says so, and keeps changing it.

Storages have no locks in common, and a killed run cannot take its mark away. So a mark counts for as long as it
changes: that needs no clock of another machine, and nothing that a kill could leave locked.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from dedup import formats, storage
from dedup.errors import Outage, Reason, Reject, UsageError

BEAT = 5.0
"""Seconds after which a mark is changed again."""

_SILENCE = 4  # beats without a change after which a run is dead
_MARK_BYTES = 1 << 16
_SETTLE = 0.5  # seconds in which another run that begins at the same time shows its own mark

_log = logging.getLogger(__name__)


class Claim:
    """The right of one run to write to an output, for as long as it is its own."""

    def __init__(self, location: str, job: str) -> None:
        self._location, self._file = location, f"{location}/_running"
        self._mark = {
            "run": uuid.uuid4().hex,
            "job": job,
            "host": socket.gethostname(),
            "machine": _machine(),
            "process": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._lost = False
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name=f"claim of {location}", daemon=True)

    def begin(self) -> None:
        """Take the claim.

        Raises
        ------
        UsageError, Outage
            If another run writes there, or the storage does not tell.
        """
        there = self._look()
        if there is not None and self._lives(there):
            raise self._refusal(there)
        self._write(0)
        time.sleep(_SETTLE)
        there = self._look()
        if not self._owns(there):
            raise self._refusal(there or b"")
        self._heart.start()

    def is_held(self) -> bool:
        """Tell, without having it, whether a run has the claim and lives."""
        there = self._look()
        return there is not None and self._lives(there)

    def require(self) -> None:
        """Make sure, before something is made to count, that the claim is still this run's.

        Raises
        ------
        UsageError
            If another run has taken it, as this one had stood still for long.
        """
        if self._lost or not self._owns(self._look()):
            raise UsageError(f"{self._location}: another run took over, as this one stood still: let only one go on")

    def end(self) -> None:
        """Give the claim back."""
        self._ended.set()
        if self._heart.ident is not None:
            self._heart.join(BEAT)  # it may be waiting for a storage that is silent
        try:
            if self._owns(self._look()):
                storage.delete(self._file)
        except (UsageError, Outage) as error:  # the work is done; the next run sees that the mark does not change
            _log.warning("%s", error)

    def _beat(self) -> None:
        number = 0
        while not self._ended.wait(BEAT):
            number += 1
            try:
                if not self._owns(self._look()):
                    self._lost = True
                    return
                self._write(number)
            except Exception as error:  # the work itself finds out whether the storage is gone for good
                _log.warning("%s", error)

    def _write(self, beat: int) -> None:
        storage.write(self._file, json.dumps(self._mark | {"beat": beat}).encode())

    def _look(self) -> bytes | None:
        """Return the mark that is there, as it is, or None."""
        try:
            return storage.read(self._file, _MARK_BYTES)
        except Reject as reject:
            if reject.reason == Reason.MISSING:
                return None
            raise UsageError(f"{self._file}: {reject.detail}") from reject

    def _owns(self, there: bytes | None) -> bool:
        """Tell whether a mark is this run's: one that is just being written may be anybody's, even this one's.

        One that is gone was taken, and taken away, by a run that has come to its end meanwhile.
        """
        return there is not None and _parsed(there).get("run", self._mark["run"]) == self._mark["run"]

    def _lives(self, there: bytes) -> bool:
        """Tell whether the run that left a mark still changes it."""
        mark = _parsed(there)
        if mark.get("machine") == self._mark["machine"] and not _runs(mark.get("process")):
            return False
        ticks = 5
        for tick in range(_SILENCE * ticks):
            time.sleep(BEAT / ticks)
            now = self._look()
            if now is None:
                return False
            if now != there:
                return True
            if tick == 2 * ticks:  # a run that lives would have been seen by now
                _log.warning("%s: a run there did not end; waiting whether it goes on", self._location)
        return False

    def _refusal(self, there: bytes) -> UsageError:
        mark = _parsed(there)
        who = f"{mark.get('job')} on {mark.get('host')}, process {mark.get('process')}, since {mark.get('since')}"
        return UsageError(f"{self._location}: another run writes there ({who}): wait for its end, or end it")


class _Shared(Claim):
    """Nothing: in a catalog, it is for whoever starts runs that one at a time writes to a location."""

    def begin(self) -> None:
        """Take nothing."""

    def require(self) -> None:
        """Ask for nothing."""

    def end(self) -> None:
        """Give nothing back."""


def _parsed(mark: bytes) -> dict[str, object]:
    try:
        found = json.loads(mark)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _machine() -> str:
    """Return what tells apart all places where numbers of processes are counted: names of machines do not."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # no Linux
        return uuid.uuid4().hex


def _runs(process: object) -> bool:
    """Tell whether there is a process of this number on this machine."""
    if not isinstance(process, int) or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    except OverflowError:
        return False  # no such number can be
    return True


def is_held(location: str) -> bool:
    """Tell whether a run that lives writes to an output."""
    return not formats.is_name(location) and Claim(location, "").is_held()


@contextmanager
def claimed(location: str, job: str) -> Iterator[Claim]:
    """Have an output to oneself for the time of a `with`.

    Parameters
    ----------
    location
        Where the job writes; it is there and can be written.
    job
        What the job is called.

    Raises
    ------
    UsageError
        If another run writes there.
    """
    claim = _Shared(location, job) if formats.is_name(location) else Claim(location, job)
    claim.begin()
    try:
        yield claim
    finally:
        claim.end()
