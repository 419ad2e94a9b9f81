"""One run at a time on an output: whoever writes there keeps a mark that says so, and keeps changing it.

Storages have no locks in common, and a killed run cannot take its mark away. So a mark counts for as long as it
changes: that needs no clock of another machine, and nothing that a kill could leave locked. In a folder it is a small
file, in a catalog a property of a table without rows.
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
from typing import Protocol

from dedup import formats, storage
from dedup.errors import Reason, Reject, UsageError

BEAT = 5.0
"""Seconds after which the mark of a folder is changed again; that of a catalog, `pace` times as many."""

_SILENCE = 4  # beats without a change after which a run is dead
_MARK_BYTES = 1 << 16
_SETTLE = 0.5  # seconds in which another run that begins at the same time shows its own mark; in a catalog as above

_log = logging.getLogger(__name__)


class _Place(Protocol):
    """Where a mark is."""

    pace: int

    def look(self) -> bytes | None:
        """Return the mark that is there, as it is, or None."""

    def begin(self, mark: bytes) -> None:
        """Leave a mark where there is none; what is there afterwards is that of the one run that may go on."""

    def change(self, mark: bytes) -> None:
        """Put a mark in the place of the one that is there."""

    def delete(self) -> None:
        """Take the mark away."""


class _File:
    """The mark of a folder."""

    pace = 1

    def __init__(self, location: str) -> None:
        self._file = f"{location}/_running"

    def look(self) -> bytes | None:
        try:
            return storage.read(self._file, _MARK_BYTES)
        except Reject as reject:
            if reject.reason == Reason.MISSING:
                return None
            raise UsageError(f"{self._file}: {reject.detail}") from reject

    def begin(self, mark: bytes) -> None:
        self.change(mark)
        time.sleep(_SETTLE)

    def change(self, mark: bytes) -> None:
        storage.write(self._file, mark)

    def delete(self) -> None:
        storage.delete(self._file)


class _Property:
    """The mark of tables in a catalog, where each change is a transaction."""

    pace = 6

    def __init__(self, location: str, format: str | None) -> None:
        self._location, self._format = location, format
        self._folder = f"{location}/running"

    def look(self) -> bytes | None:
        with formats.asking(self._location):
            mark = formats.CATALOG.mark(self._folder)
        return None if mark is None else mark.encode()

    def begin(self, mark: bytes) -> None:
        with formats.asking(self._location):
            formats.CATALOG.begin_mark(self._folder, mark.decode(), self._format)

    def change(self, mark: bytes) -> None:
        with formats.asking(self._location):
            formats.CATALOG.change_mark(self._folder, mark.decode())

    def delete(self) -> None:
        with formats.asking(self._location):
            formats.CATALOG.drop_mark(self._folder)


class Claim:
    """The right of one run to write to an output, for as long as it is its own."""

    def __init__(self, location: str, job: str, format: str | None = None) -> None:
        self._location = location
        self._place: _Place = _Property(location, format) if formats.is_name(location) else _File(location)
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
        there = self._place.look()
        if there is not None:
            if self._lives(there):
                raise self._refusal(there)
            there = self._place.look()
        if there is None:
            self._place.begin(self._beaten(0))
        else:
            self._place.change(self._beaten(0))
            time.sleep(_SETTLE * self._place.pace)
        there = self._place.look()
        if not self._owns(there):
            raise self._refusal(there or b"")
        self._heart.start()

    def is_held(self) -> bool:
        """Tell, without having it, whether a run has the claim and lives."""
        there = self._place.look()
        return there is not None and self._lives(there)

    def require(self) -> None:
        """Make sure, before something is made to count, that the claim is still this run's.

        Raises
        ------
        UsageError
            If another run has taken it, as this one had stood still for long.
        """
        if self._lost or not self._owns(self._place.look()):
            raise UsageError(f"{self._location}: another run took over, as this one stood still: let only one go on")

    def end(self) -> None:
        """Give the claim back."""
        self._ended.set()
        if self._heart.ident is not None:
            self._heart.join(BEAT * self._place.pace)  # it may be waiting for a storage that is silent
        try:
            if self._owns(self._place.look()):
                self._place.delete()
        except Exception as error:  # the work is done; the next run sees that the mark does not change
            _log.warning("%s", error)

    def _beat(self) -> None:
        number = 0
        while not self._ended.wait(BEAT * self._place.pace):
            number += 1
            try:
                if not self._owns(self._place.look()):
                    self._lost = True
                    return
                if not self._ended.is_set():
                    self._place.change(self._beaten(number))
            except Exception as error:  # the work itself finds out whether the storage is gone for good
                _log.warning("%s", error)

    def _beaten(self, beat: int) -> bytes:
        return json.dumps(self._mark | {"beat": beat}).encode()

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
            time.sleep(BEAT * self._place.pace / ticks)
            now = self._place.look()
            if now is None:
                return False
            if now != there:
                return True
            if tick == 2 * ticks:  # a run that lives would have been seen by now
                _log.warning("%s: a run there did not end; waiting whether it goes on", self._location)
        return False

    def _refusal(self, there: bytes) -> UsageError:
        said = f"{self._location}: another run writes there"
        if mark := _parsed(there):
            who = f"{mark.get('job')} on {mark.get('host')}, process {mark.get('process')}, since {mark.get('since')}"
            said += f" ({who})"
        return UsageError(f"{said}: wait for its end, or end it")


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
    return Claim(location, "").is_held()


@contextmanager
def claimed(location: str, job: str, format: str | None = None) -> Iterator[Claim]:
    """Have an output to oneself for the time of a `with`.

    Parameters
    ----------
    location
        Where the job writes; it is there and can be written.
    job
        What the job is called.
    format
        Of the tables, where a catalog has none of the location yet: a name of `formats.FORMATS`, None for the default.

    Raises
    ------
    UsageError
        If another run writes there.
    """
    claim = Claim(location, job, format)
    claim.begin()
    try:
        yield claim
    finally:
        claim.end()
