"""The one entry, as far as it goes without Spark: help, bad use in one line, and what is said where Java is missing."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Submit = Callable[..., subprocess.CompletedProcess[str]]

BAD_USE = 2


@pytest.fixture
def submit(root: Path, tmp_path: Path) -> Submit:
    """Run submit.sh with an environment that is up to date by its stamp, and empty: nothing is installed."""
    venv = tmp_path / "venv"
    venv.mkdir()
    with open(root / "requirements.txt") as requirements:
        stamp = subprocess.run(["cksum"], stdin=requirements, capture_output=True, text=True, check=True).stdout
    (venv / ".requirements").write_text(stamp)

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = (
            os.environ
            | {name: os.fspath(venv) for name in ("DEDUP_VENV", "DEDUP_BENCH_VENV")}
            | {"JAVA_HOME": os.fspath(tmp_path), "DEDUP_SPARK": ""}
            | variables
        )
        command = [os.fspath(root / "submit.sh"), *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)

    return run


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_all_jobs(submit: Submit, root: Path, option: str) -> None:
    done = submit(option)
    assert (done.returncode, done.stderr) == (0, "")
    listed = [line.split()[0] for line in done.stdout.partition("jobs:\n")[2].partition("\n\n")[0].splitlines()]
    assert sorted(listed) == sorted([job.stem for job in (root / "jobs").glob("*.py")] + ["test", "bench"])


def test_help_needs_nothing(submit: Submit) -> None:
    assert submit("--help", DEDUP_VENV="/nowhere", JAVA_HOME="/nowhere").returncode == 0


def test_no_words_are_answered_with_the_usage(submit: Submit) -> None:
    done = submit()
    assert (done.returncode, done.stdout) == (BAD_USE, "")
    assert done.stderr.startswith("usage: ./submit.sh")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "nonsense"),
        (["--master", "local[2]", "nonsense", "--help"], "nonsense"),
        (["--conf", "a=b", "ingest.py"], "ingest.py"),
        (["--master"], "--master"),
        (["--num-executors"], "--num-executors"),
        ([""], "no such job"),
        *(
            (["--master", master, "query"], f"error: {master}: no such master (possible: local[*], spark://")
            for master in ("localhost", "yarn-client", "k8s:host", "spark.example.org")
        ),
    ],
)
def test_bad_use_is_one_line(submit: Submit, words: list[str], said: str) -> None:
    done = submit(*words)
    assert (done.returncode, done.stdout) == (BAD_USE, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_options_without_a_job_are_answered_with_the_usage(submit: Submit) -> None:
    done = submit("--master=local[2]", "--verbose")
    assert done.returncode == BAD_USE
    assert done.stderr.startswith("usage: ./submit.sh")


@pytest.mark.parametrize("job", ["query", "test", "bench"])
def test_without_a_jdk_one_line_says_how_to_get_one(submit: Submit, job: str) -> None:
    done = submit(job)
    assert (done.returncode, done.stdout) == (BAD_USE, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in ("JDK", "17", "apt-get install openjdk-17-jdk-headless", "JAVA_HOME"))


def make_java(home: Path, modules: str, version: str) -> None:
    """Make a program that answers as `java` does when it is asked what it is."""
    java = home / "bin" / "java"
    java.parent.mkdir()
    listed = "\\n".join(modules.split())
    java.write_text(
        f"#!/bin/sh\ncase $* in\n--list-modules) printf '{listed}\\n';;\n*org.apache.ivy.Main*) exit 1;;\n"
        f"*) echo '    java.specification.version = {version}' >&2;;\nesac\n"
    )
    java.chmod(0o755)


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_with_a_key_is_bad_use_and_the_key_is_not_told(submit: Submit, variable: str) -> None:
    done = submit("query", **{variable: "http://key:topsecret@host:9000"})
    assert (done.returncode, done.stdout) == (BAD_USE, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the variable of the endpoint cannot hold a name and a key")
    assert "secret" not in line


SECRET = [
    "spark.hadoop.fs.s3a.secret.key",
    "spark.hadoop.fs.s3a.access.key",
    "spark.hadoop.fs.s3a.bucket.lake.access.key",
    "spark.hadoop.fs.s3a.session.token",
    "spark.hadoop.fs.s3a.encryption.key",
    "spark.executorEnv.AWS_ACCESS_KEY_ID",
    "spark.executorEnv.AWS_SECRET_ACCESS_KEY",
    "spark.executorEnv.AWS_SESSION_TOKEN",
    "spark.hadoop.fs.azure.account.key.lake.dfs.core.windows.net",
    "spark.hadoop.fs.azure.account.oauth2.client.secret",
    "spark.hadoop.fs.azure.sas.fixed.token",
    "spark.hadoop.fs.azure.sas.box.lake.blob.core.windows.net",
    "spark.hadoop.fs.gs.auth.service.account.private.key",
    "spark.ssl.keyStorePassword",
    "spark.authenticate.secret",
    "spark.sql.catalog.lake.credential",
    "spark.sql.catalog.lake.s3.access-key-id",
    "spark.sql.catalog.lake.s3.secret-access-key",
    "spark.sql.catalog.lake.s3.sse.key",
    "spark.sql.catalog.lake.adls.auth.shared-key.account.key",
    "org.apache.spark.deploy.SparkSubmit --conf spark.sql.catalog.lake.credential=id:topmost job.py",
]
PLAIN = [
    "spark.executor.memory",
    "spark.hadoop.fs.s3a.endpoint",
    "spark.hadoop.fs.s3a.aws.credentials.provider",
    "software.amazon.awssdk.auth.credentials.ProfileCredentialsProvider,org.apache.hadoop.fs.s3a.AWSCredentialProviderList",
    "spark.hadoop.hadoop.security.credential.provider.path",
    "spark.sql.shuffle.partitions",
    "spark.sql.sources.parallelPartitionDiscovery.threshold",
    "spark.executorEnv.GOOGLE_APPLICATION_CREDENTIALS",
    "spark.sql.catalog.lake.s3.sse.type",
]


@pytest.mark.parametrize(
    "preset", [*(f"conf/{name}.conf" for name in ("local", "standalone", "yarn", "kubernetes")), "resources/dedup.yml"]
)
def test_every_preset_masks_what_holds_keys(root: Path, preset: str) -> None:
    lines = (root / preset).read_text().splitlines()
    named = re.compile(r" *spark\.redaction\.regex:? +(.+)")
    (masked,) = [found[1] for line in lines if (found := named.fullmatch(line))]
    assert [name for name in SECRET if not re.search(masked, name)] == []
    assert [name for name in PLAIN if re.search(masked, name)] == []


@pytest.mark.parametrize(
    ("modules", "version"), [("java.base@11 jdk.incubator.vector@11", "11"), ("java.base@21", "21")]
)
def test_a_java_that_cannot_start_spark_is_none(submit: Submit, tmp_path: Path, modules: str, version: str) -> None:
    make_java(tmp_path, modules, version)
    done = submit("query")
    assert (done.returncode, done.stdout) == (BAD_USE, "")
    assert "a full JDK of Java 17 or newer is needed" in done.stderr


def test_a_java_that_can_start_spark_is_taken(submit: Submit, tmp_path: Path) -> None:
    make_java(tmp_path, "java.base@17 jdk.incubator.vector@17", "17")
    done = submit("query")
    assert done.returncode != 0  # it ends later: there is no Python in the environment
    assert "JDK" not in done.stderr
    assert "/venv/bin/python" in done.stderr


@pytest.fixture
def made(submit: Submit, root: Path, tmp_path: Path) -> Submit:
    """Run submit.sh where Java and all environments are there, and nothing can be fetched; the tests fail under 4.1."""
    make_java(tmp_path, "java.base@17 jdk.incubator.vector@17", "17")
    first = tmp_path / "venv"
    stamp = (first / ".requirements").read_text()
    for line in (root / "conf" / "releases.txt").read_text().splitlines():
        if not line.startswith("#"):
            release, pyspark, *_ = line.split()
            (first / f"spark-{release}").mkdir()
            (first / f"spark-{release}" / ".requirements").write_text(f"{pyspark} {stamp}")
    for environment in [first, *first.glob("spark-*")]:
        python = environment / "bin" / "python"
        python.parent.mkdir()
        python.write_text(
            f"#!/bin/sh\ncase $* in\n*find_spec*) echo '{tmp_path}/pyspark';;\n"
            f"*pytest*) echo '{environment.name}' \"$@\"; test '{environment.name}' != spark-4.1;;\nesac\n"
        )
        python.chmod(0o755)
    return submit


@pytest.mark.parametrize("release", ["3.5", "4.2.0", "all"])
def test_a_release_of_spark_that_is_none_is_one_line(submit: Submit, release: str) -> None:
    done = submit("query", DEDUP_SPARK=release)
    assert (done.returncode, done.stdout) == (BAD_USE, "")
    assert done.stderr == f"error: DEDUP_SPARK={release}: possible are 4.0 4.1 4.2 4.3, and all for test\n"


@pytest.mark.parametrize(
    ("release", "name", "those"),
    [("4.2", "iceberg", "4.0 4.1"), ("4.3", "iceberg", "4.0 4.1"), ("4.3", "delta", "4.0 4.1 4.2")],
)
def test_a_format_without_a_library_says_which_releases_have_one(
    made: Submit, release: str, name: str, those: str
) -> None:
    done = made("query", f"--format={name}", DEDUP_SPARK=release)
    assert (done.returncode, done.stdout) == (BAD_USE, "")
    assert done.stderr == (
        f"error: there is no library for {name.title()} tables under Spark {release} "
        f"(set DEDUP_SPARK to one of {those}), or name your own by --jars or --packages\n"
    )


def test_a_library_that_cannot_be_fetched_ends_a_job_and_leaves_nothing(made: Submit, tmp_path: Path) -> None:
    done = made("query", "--format", "delta")
    assert done.returncode == BAD_USE
    assert "error: the library for Delta tables under Spark 4.2 could not be fetched (try again; " in done.stderr
    (log,) = (tmp_path / "venv").glob("delta-*")
    assert str(log) in done.stderr


@pytest.fixture
def settings(made: Submit, tmp_path: Path) -> Callable[..., list[str]]:
    """Run submit.sh with a properties file and a spark-submit that only says what it was given; return its --conf."""
    jars = tmp_path / "pyspark" / "jars"
    jars.mkdir(parents=True)
    (jars / "hadoop-client-api-3.5.0.jar").touch()
    program = tmp_path / "pyspark" / "bin" / "spark-submit"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)

    def run(text: str, *words: str, **variables: str) -> list[str]:
        (tmp_path / "own.conf").write_text(text)
        done = made("--properties-file", "own.conf", *words, "query", "--format", "delta", **variables)
        assert done.returncode == 0, done.stderr
        given = done.stdout.splitlines()
        return [given[i + 1] for i, word in enumerate(given) if word == "--conf"]

    return run


def test_tests_do_not_look_at_the_master(made: Submit) -> None:
    assert made("test", MASTER="somewhere").returncode == 0


DELTA = "io.delta.sql.DeltaSparkSessionExtension"
CATALOG = "spark.sql.catalog.spark_catalog"
JARS = ("--jars", "delta-spark.jar,hadoop-aws.jar")


@pytest.mark.parametrize(
    ("text", "extensions", "catalog"),
    [
        ("", [DELTA], True),
        ("# spark.sql.extensions a.B\nspark.sql.extensionsOfMine=a.B\nsparkXsql.extensions a.B\n", [DELTA], True),
        ("spark.sql.extensions a.B\n", [f"a.B,{DELTA}"], True),
        ("spark.sql.extensions = a.B, c.D  \r\n", [f"a.B, c.D,{DELTA}"], True),
        ("# a \\\nspark.sql.extensions \\\n  a.B,\\\n\tc.D\nb c\n", [f"a.B,c.D,{DELTA}"], True),
        ("spark.sql.extensions a.B,\\\r\n  c.D\r\n", [f"a.B,c.D,{DELTA}"], True),
        ("b C:\\\\\nspark.sql.extensions a.B\n", [f"a.B,{DELTA}"], True),
        (f"  spark.sql.extensions:a.B, {DELTA}\n{CATALOG}=a.Catalog", [], False),
    ],
)
def test_extensions_are_added_to_those_of_a_properties_file_and_its_catalog_stays(
    settings: Callable[..., list[str]], text: str, extensions: list[str], catalog: bool
) -> None:
    given = settings(text, *JARS)
    assert [one.partition("=")[2] for one in given if one.startswith("spark.sql.extensions=")] == extensions
    assert [one for one in given if one.startswith(CATALOG)] == [
        f"{CATALOG}=org.apache.spark.sql.delta.catalog.DeltaCatalog"
    ] * catalog


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_a_properties_file_wins_over_variables_and_an_option_over_it(
    settings: Callable[..., list[str]], mode: str
) -> None:
    variables = {"AWS_ENDPOINT_URL": "http://b:1", "AWS_PROFILE": "lakes", "AWS_REGION": "eu"}
    names = ["endpoint", "path.style.access", "endpoint.region", "aws.credentials.provider"]
    keys = [f"spark.hadoop.fs.s3a.{name}" for name in names] + [f"spark.executorEnv.{name}" for name in variables]
    if mode == "cluster":
        keys += [
            f"spark.{where}.{name}" for where in ("yarn.appMasterEnv", "kubernetes.driverEnv") for name in variables
        ]
    words = ("--deploy-mode", mode, *JARS)
    plain = [one.partition("=")[0] for one in settings("", *words, **variables)]
    assert set(keys) < set(plain)
    own = settings("".join(f"{key} mine\n" for key in keys), *words, "--conf", f"{keys[0]}=option", **variables)
    assert [one for one in own if one.partition("=")[0] in keys] == [f"{keys[0]}=option"]


def test_hadoop_looks_into_profiles_where_there_are_some(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    def told(**variables: str) -> int:
        own = dict.fromkeys(("AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"), "")
        given = settings("", *JARS, **own | {"HOME": str(tmp_path)} | variables)
        return sum(one.startswith("spark.hadoop.fs.s3a.aws.credentials.provider=") for one in given)

    assert told() == 0, "the cluster's own settings hold"
    assert told(AWS_PROFILE="lakes") == 1
    config, keys = tmp_path / ".aws" / "config", "[default]\naws_access_key_id = KEY\n"
    config.parent.mkdir()
    config.write_text("[default]\nregion = eu-central-1\n")
    assert told() == 0, "a region is no key"
    config.write_text(keys)
    assert told() == 1
    config.rename(tmp_path / "keys")
    assert told(AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "keys")) == 1


@pytest.mark.parametrize("scheme", ["s3a", "s3"])
def test_the_library_of_s3a_is_fetched_for_a_location_in_a_properties_file(
    settings: Callable[..., list[str]], made: Submit, tmp_path: Path, scheme: str
) -> None:
    assert settings(f"# spark.sql.warehouse.dir {scheme}://lake\n", "--jars", "delta-spark.jar")
    (tmp_path / "own.conf").write_text(f"spark.sql.warehouse.dir {scheme}://lake\n")
    done = made("--properties-file=own.conf", "query")
    assert done.returncode == BAD_USE
    assert "error: the library for s3a: locations under Spark 4.2 could not be fetched" in done.stderr


def test_tests_go_on_without_the_libraries_of_tables(made: Submit) -> None:
    done = made("test", "tests/unit", "-k", "dice")
    assert (done.returncode, done.stdout) == (
        0,
        "venv -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/unit -k dice\n",
    )
    said = [line for line in done.stderr.splitlines() if line.endswith(": the tests of such tables are skipped")]
    assert [line.partition(" tables")[0] for line in said] == [
        "the library for Delta",
        "there is no library for Iceberg",
    ]


@pytest.mark.parametrize(
    ("words", "chosen"), [((), "-m not slow"), (("-m", "slow"), "-m slow"), (("tests/cluster",), "tests/cluster")]
)
def test_slow_tests_run_when_something_is_chosen(made: Submit, words: tuple[str, ...], chosen: str) -> None:
    said = made("test", *words).stdout.splitlines()[-1]
    assert said == f"venv -m pytest -n 2 --dist loadfile --no-loadscope-reorder {chosen}"


@pytest.mark.parametrize(("words", "chosen"), [((), "-m not slow"), (("tests/spark",), "tests/spark")])
def test_all_releases_are_tested_in_turn(made: Submit, words: tuple[str, ...], chosen: str) -> None:
    done = made("test", *words, DEDUP_SPARK="all")
    assert done.returncode == 1
    ran_by = f"-m pytest -n 2 --dist loadfile --no-loadscope-reorder {chosen}"
    ran = [f"{environment} {ran_by}" for environment in ("spark-4.0", "spark-4.1", "venv", "spark-4.3")]
    told = [f"Spark 4.{minor}: {'failed' if minor == 1 else 'passed'}" for minor in range(4)]
    assert done.stdout.splitlines() == ran + told
