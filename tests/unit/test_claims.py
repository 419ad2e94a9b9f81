"""Who may write to an output: one run, for as long as it lives."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dedup import claims, storage
from dedup.claims import Claim, claimed
from dedup.errors import UsageError


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.1)
    monkeypatch.setattr(claims, "_SETTLE", 0.1)


def leave(folder: Path, **mark: object) -> None:
    """Leave the mark of another run."""
    there = {"run": "other", "job": "extract", "host": "elsewhere", "process": 7, "since": "2026-01-01", "beat": 1}
    storage.write(f"{folder}/_running", json.dumps(there | mark).encode())


def test_a_claim_is_gone_when_it_ends_also_by_an_error(tmp_path: Path) -> None:
    def work() -> None:
        with claimed(str(tmp_path), "extract") as claim:
            claim.require()
            assert storage.names(str(tmp_path)) == ["_running"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert storage.names(str(tmp_path)) == []


def test_a_second_run_is_told_of_the_first(tmp_path: Path) -> None:
    with claimed(str(tmp_path), "extract") as first:
        with pytest.raises(
            UsageError, match=r"another run writes there \(extract on .+, process \d+, since "
        ) as caught:
            Claim(str(tmp_path), "ingest").begin()
        assert str(caught.value).startswith(f"{tmp_path}: ")
        first.require()
    with claimed(str(tmp_path), "ingest") as second:
        second.require()


def test_a_run_on_another_machine_lives_while_its_mark_changes(tmp_path: Path) -> None:
    ended = threading.Event()

    def beat() -> None:
        number = 1
        while not ended.wait(0.05):
            number += 1
            leave(tmp_path, beat=number)

    leave(tmp_path)
    other = threading.Thread(target=beat)
    other.start()
    with pytest.raises(UsageError, match="extract on elsewhere, process 7"):
        Claim(str(tmp_path), "extract").begin()
    ended.set()
    other.join()
    with claimed(str(tmp_path), "extract") as claim:  # now it is silent
        claim.require()


def test_a_run_of_this_machine_that_was_killed_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = f"""
import os, signal
from dedup.claims import Claim
Claim({str(tmp_path)!r}, "extract").begin()
os.kill(os.getpid(), signal.SIGKILL)
"""
    library = str(Path(claims.__file__).parent.parent)
    killed = subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": library}, check=False)
    assert killed.returncode == -9
    assert storage.names(str(tmp_path)) == ["_running"]
    with caplog.at_level(logging.WARNING), claimed(str(tmp_path), "extract") as claim:
        claim.require()
    assert not caplog.records


def test_a_mark_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    storage.write(f"{tmp_path}/_running", b"")
    later = threading.Timer(0.2, leave, [tmp_path])
    later.start()
    with pytest.raises(UsageError, match="another run writes there"):
        Claim(str(tmp_path), "extract").begin()
    storage.write(f"{tmp_path}/_running", b"[")  # and what stays so was left by a kill
    with claimed(str(tmp_path), "extract") as claim:
        claim.require()


def test_a_run_that_stood_still_too_long_learns_that_it_was_replaced(tmp_path: Path) -> None:
    with claimed(str(tmp_path), "extract") as claim:
        leave(tmp_path)
        with pytest.raises(UsageError, match="another run took over"):
            claim.require()
        time.sleep(0.4)
        assert not claim._heart.is_alive(), "nothing of the other's is written over"
    assert storage.names(str(tmp_path)) == ["_running"], "what is another's stays"


def test_of_runs_that_begin_at_once_one_goes_on(tmp_path: Path) -> None:
    began: list[Claim] = []
    refused: list[UsageError] = []
    together = threading.Barrier(6)

    def run() -> None:
        claim = Claim(str(tmp_path), "extract")
        together.wait()
        try:
            claim.begin()
            began.append(claim)
        except UsageError as error:
            refused.append(error)

    runs = [threading.Thread(target=run) for _ in range(6)]
    for one in runs:
        one.start()
    for one in runs:
        one.join()
    assert len(began) == 1
    assert len(refused) == 5
    began[0].end()


def test_a_run_that_was_replaced_by_one_that_has_ended_learns_it_too(tmp_path: Path) -> None:
    with claimed(str(tmp_path), "extract") as claim:
        storage.delete(f"{tmp_path}/_running")  # as the other one does at its end
        with pytest.raises(UsageError, match="another run took over"):
            claim.require()
        time.sleep(0.4)
        assert storage.names(str(tmp_path)) == [], "it makes no claim anew: what it knows is of before"
