"""A file of labelled pairs: how it is read, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dedup import labels
from dedup.errors import UsageError
from dedup.labels import Labelled, Pair

HEADER = "query_path,duplicate_path,relation\n"


def test_paths_go_on_from_the_folder_of_the_file(tmp_path: Path) -> None:
    text = f'\ufeff{HEADER}a/b.jpg,"/c, d/e.jpg",resized\n./f.jpg,s3://bucket/g.jpg,mirrored\n'
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    assert labels.read(str(tmp_path / "labels.csv")) == [
        Pair(f"{tmp_path}/a/b.jpg", "/c, d/e.jpg", "resized"),
        Pair(f"{tmp_path}/f.jpg", "s3a://bucket/g.jpg", "mirrored"),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "must name the columns query_path, duplicate_path, relation"),
        (b"a,b,c\n1,2,3\n", "must name the columns"),
        (HEADER.encode(), "no pairs in it"),
        (HEADER.encode() + b"a,b\n", "line 2 has not as many fields"),
        (HEADER.encode() + b"a,b,c\na,b,c,d\n", "line 3 has not as many fields"),
        (HEADER.encode() + b"a,b,all\n", "line 2 has the relation 'all', which says nothing"),
        (HEADER.encode() + b"".join(b"a,b,%d\n" % n for n in range(101)), "101 relations: they are kinds of copies"),
        (HEADER.encode() + b"a,b,\n", "line 2 has the relation '', which says nothing"),
        (HEADER.encode() + b"\xff,b,c\n", "not a file of CSV in UTF-8"),
        (HEADER.encode() + b'"a,b,c\n', "not a file of CSV in UTF-8"),
        (HEADER.encode() + b"x" * 200_000 + b",b,c\n", "not a file of CSV in UTF-8"),
    ],
)
def test_what_is_no_file_of_labels_is_said(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(UsageError, match=f"--labels .*labels.csv: .*{says}"):
        labels.read(str(tmp_path / "labels.csv"))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--labels .*none\.csv: missing"):
        labels.read(str(tmp_path / "none.csv"))


def test_what_pairs_connect_is_one_group() -> None:
    query, duplicate = np.array(["a", "b", "d"]), np.array(["b", "c", "e"])
    groups = Labelled(query, duplicate, query, 0, 0, 0).groups
    assert groups["a"] == groups["b"] == groups["c"] != groups["d"] == groups["e"]
