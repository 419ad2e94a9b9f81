"""What a deduplication keeps for its own time: gone at its end, and never what a user hears of instead of an error."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dedup.deduplication import _scratch
from dedup.errors import Outage, UsageError

REFUSED = "ftp://nowhere/output"
"""A place where nothing can be deleted."""


def test_a_scratch_folder_is_gone_after_an_end_and_after_an_error(tmp_path: Path) -> None:
    with _scratch(str(tmp_path)) as folder:
        Path(folder).mkdir()

    def fails() -> None:
        with _scratch(str(tmp_path)) as folder:
            Path(folder).mkdir()
            raise Outage("of the work")

    with pytest.raises(Outage, match="of the work"):
        fails()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_deleted_hides_no_error_and_is_one_where_there_is_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Outage, match="of the work"), _scratch(REFUSED):
        raise Outage("of the work")
    (warned,) = caplog.records
    assert (warned.levelno, warned.name) == (logging.WARNING, "dedup.deduplication")
    assert REFUSED in warned.message
    with pytest.raises(UsageError, match=REFUSED), _scratch(REFUSED):
        pass
