"""What tests need that a machine may lack: an S3 server, a browser, the libraries of table formats."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def without(name: str, why: str) -> NoReturn:
    """Skip a test for want of something; where DEDUP_REQUIRE names it, the test fails.

    Parameters
    ----------
    name
        s3, browser, delta or iceberg.
    why
        What is not there, and what brings it.
    """
    if name in os.environ.get("DEDUP_REQUIRE", "").split(","):
        pytest.fail(why)
    pytest.skip(why)
