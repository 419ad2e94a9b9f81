"""Progress: a bar where somebody looks, whole lines where nobody does, nothing where there is nothing to wait for."""

from __future__ import annotations

import logging
from contextlib import closing

import pytest

from dedup import progress
from dedup.progress import Progress


@pytest.fixture(autouse=True)
def nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEDUP_TERMINAL", "DEDUP_LOG"):
        monkeypatch.delenv(name, raising=False)


def work(*parts: int) -> None:
    with closing(Progress("extract", sum(parts), "images")) as shown:
        for part in parts:
            shown.add(part)


def test_quick_work_is_not_spoken_of(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.INFO):
        work(0, 3, 2)
    assert (caplog.messages, capsys.readouterr()) == ([], ("", ""))


def test_slow_work_is_a_line_now_and_then_and_one_at_its_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    with caplog.at_level(logging.INFO):
        work(0, 300, 1, 1, 1, 1233)  # the first line is due at once, the next one in 30 s, the last one always
    first, last = caplog.messages
    assert first == "extract: 0 of 1,536 images (0 %) in 00:00"
    assert last.startswith("extract: 1,536 of 1,536 images (100 %), ")
    monkeypatch.setattr(progress, "EVERY", 0.0)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        work(1, 1)
    assert [line.partition(" images")[0] for line in caplog.messages] == ["extract: 1 of 2", "extract: 2 of 2"]
    assert "\r" not in capsys.readouterr().err


def test_on_a_terminal_it_is_a_bar(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEDUP_TERMINAL", "1")  # as submit.sh says it
    monkeypatch.setattr(progress, "_BLINK", 0.0)
    with caplog.at_level(logging.INFO):
        work(0, 300, 1236)
    bar = capsys.readouterr().err.rpartition("\r")[2]
    assert bar.startswith("extract: 100%|")
    assert " images/s]" in bar
    assert caplog.messages == []


def test_structured_logs_have_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEDUP_TERMINAL", "1")
    assert progress.on_terminal()
    monkeypatch.setenv("DEDUP_LOG", "json")
    assert not progress.on_terminal()
