"""What a terminal and a page are shown: no name is obeyed, and no secret is told."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.pages import Page, row

from dedup import console, job, page, storage, stores
from dedup.answers import Answered
from dedup.distances import METRICS
from dedup.errors import Reason, Reject, UsageError
from dedup.lines import holds_secret, printable

CLEAR = "\x1b[2J\x1b]0;owned\x07 a.jpg"
OBEYED = [CLEAR, "\x9b2J", "a\rb", "a\nerror: none", "\u202egpj.exe", "a\u2028b", "a\x00b", "a\ud800", "a\x7fb", "a\tb"]
SECRETS = [
    "s3a://AKIAKEY:topsecret@bucket/a",
    "s3a://AKIAKEY:top/secret+1=@bucket/a",
    "s3://AKIAKEY:12/topsecret@bucket/a",
    "hdfs://user:topsecret@host:8020/a",
    "https://account.blob.core.windows.net/c/a?sv=1&sig=topsecret&se=2",
    "https://b.s3.amazonaws.com/a?X-Amz-Signature=topsecret",
    "https://host/a?api_key=topsecret&b=1",
    "https://host/a#access_token=topsecret",
    "https://host/a?a=1&private_key=topsecret",
    "cannot read s3a://AKIAKEY:topsecret@bucket/a: no",
    "jdbc:postgresql://h/db?user=a&password=topsecret",
    "jdbc:postgresql://h/db?sslpassword=topsecret&user=a",
    "jdbc:sqlserver://h:1433;user=a;Password=topsecret;encrypt=true",
    "jdbc:mysql://h/db?passwd=topsecret",
    "cannot connect to jdbc:mysql://h/db?pwd=topsecret: no",
    "jdbc:sqlserver://h:1433;password={top secret};encrypt=true",
]
HARMLESS = [
    "s3a://bucket/a:b@c.jpg",
    "hdfs://host:8020/a@b.jpg",
    "abfss://box@account.dfs.core.windows.net/a",
    "/a:b@c",
    "s3a://bucket/password=1/a?.jpg",
    "s3a://bucket/x;pwd=1/cat.jpg",
]


@pytest.mark.parametrize("name", OBEYED)
def test_what_a_terminal_would_obey_is_shown_as_its_code(name: str) -> None:
    shown = printable(name)
    assert shown.isprintable()
    assert shown.encode().decode("unicode_escape", "surrogatepass") == name


@given(st.text())
def test_any_text_becomes_one_line_without_controls(text: str) -> None:
    assert all(not unicodedata.category(letter).startswith("C") for letter in printable(text))
    assert len(printable(text).splitlines()) <= 1


@pytest.mark.parametrize("name", ["/Fotos/Grüße 日本 🐈 (1) [2] \\ '\".jpg", *HARMLESS])
def test_usual_names_are_shown_as_they_are(name: str) -> None:
    assert printable(name) == name
    assert not holds_secret(name)


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_masked(text: str) -> None:
    shown = printable(text)
    assert "secret" not in shown
    assert "AKIAKEY" not in shown
    assert "***" in shown


@pytest.mark.parametrize("location", SECRETS[:4])
def test_a_location_with_a_key_is_bad_use_and_its_key_is_not_told(location: str) -> None:
    for asked in (stores.locate, stores.absolute, stores.spark_path, storage.read, storage.exists):
        with pytest.raises(UsageError, match="a location cannot hold a key") as caught:
            asked(location)
        assert "secret" not in str(caught.value)


def test_names_of_files_may_look_like_a_location_with_a_key() -> None:
    for name in ("s3a://bucket/up/x://a:b@c.jpg", "s3a://bucket/s3://a:b@c.jpg", "/in/x://a:b@c.jpg"):
        assert not holds_secret(name)
        assert "a:b@" not in printable(name)


def test_jobs_say_nothing_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job.say(f"report: {CLEAR}")

    def fails() -> None:
        raise UsageError(f"{CLEAR}: s3a://key:secret@bucket: no")

    with pytest.raises(SystemExit):
        job.run(fails)
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert "\x1b" not in text
        assert r"\x1b[2J" in text
        assert len(text.splitlines()) == 1
    assert "secret" not in said.err


def test_an_answer_in_a_terminal_obeys_no_name() -> None:
    rows = {CLEAR: [row(1, "aa", [f"/lake/{CLEAR}"], 5, euclidean=1)]}
    answered = Answered([CLEAR], [(CLEAR, Reject(Reason.CORRUPT, CLEAR))], rows, CLEAR, computed=0, notes=[CLEAR])
    shown = console.answers(answered, list(METRICS)) + console.by_votes(answered)
    assert shown.count(r"\x1b[2J") == 8
    assert not {"\x1b", "\x07"} & set(shown)


@pytest.mark.parametrize("name", OBEYED)
def test_a_page_shows_the_codes_too(name: str) -> None:
    made = {"title": name, "facts": {name: name}, "notes": [name], "metrics": list(METRICS), "groups": []}
    answer = {"query": name, "results": [row(1, name, [name, name], 5, euclidean=1)]}
    html = page.fill("report.html", report=made | {"answers": [answer | {"thumbnail": None}], "thumbnails": {name: ""}})
    html.encode()
    found = Page(html)
    assert found.text.count(printable(name)) == 8
    assert name not in "".join(text for text in found.texts if text.strip())


def test_a_page_may_load_and_run_nothing() -> None:
    made = {"title": "t", "facts": {}, "notes": [], "metrics": [], "groups": [], "answers": [], "thumbnails": {}}
    found = Page(page.fill("report.html", report=made))
    (policy,) = [one["content"] for tag, one in found.elements if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
