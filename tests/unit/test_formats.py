"""Where tables are: a folder, or a name in a catalog, as far as that can be told without Spark."""

from __future__ import annotations

import os

import pytest

from dedup import formats
from dedup.errors import UsageError


@pytest.mark.parametrize(
    "location",
    ["prod-eu.photos.lake", "main.photos-2024.lake", "main.photos.lake-1", "`prod-eu`.photos.lake", "`lake`"],
)
def test_a_name_that_only_quotes_make_one_is_bad_use_and_no_folder(location: str) -> None:
    for asked in (formats.located, formats.folder):
        with pytest.raises(UsageError, match=r"CATALOG\.SCHEMA\.NAME, of letters, digits and underscores") as caught:
            asked(location)
        assert len(str(caught.value).splitlines()) == 1
        assert asked(f"./{location}") == os.path.abspath(location)


@pytest.mark.parametrize(
    "location", ["lake-1", "a-b.c", "2024.11.29", "run-1.2.3", "a-b.c.d.e", "/a-b.c.d", "s3a://a-b.c.d", "a/`b"]
)
def test_other_locations_are_folders(location: str) -> None:
    expected = location if location.startswith("s3a:") else os.path.abspath(location)
    assert formats.located(location) == formats.folder(location) == expected
