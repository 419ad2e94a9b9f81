"""The image of Kubernetes' pods, as far as it goes without one: what its entry point makes of Spark's calls."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


def called(root: Path, folder: Path, *words: str) -> list[str]:
    """Return the words of the program that the entry point becomes, by a stand-in for Spark and one for Java."""
    for program in ("bin/spark-submit", "bin/java"):
        path = folder / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" {program} "$@"\n')
        path.chmod(0o755)
    environment = dict.fromkeys(["SPARK_HOME", "JAVA_HOME"], str(folder)) | {
        "SPARK_DRIVER_BIND_ADDRESS": "10.0.0.1",
        "SPARK_DRIVER_URL": "spark://x@h:1",
        "SPARK_EXECUTOR_ID": "3",
        "SPARK_EXECUTOR_CORES": "4",
        "SPARK_EXECUTOR_MEMORY": "4096m",
        "SPARK_APPLICATION_ID": "spark-1",
        "SPARK_EXECUTOR_POD_IP": "10.0.0.2",
        "SPARK_EXECUTOR_POD_NAME": "pod-3",
        "SPARK_RESOURCE_PROFILE_ID": "0",
        "SPARK_JAVA_OPT_0": "-Da=b c",
        "SPARK_JAVA_OPT_1": "-De",
        "SPARK_CONF_DIR": "/opt/spark/conf",
    }
    command = [str(root / "docker" / "entrypoint.sh"), *words]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_driver_is_a_spark_submit_that_listens_at_its_pod(root: Path, tmp_path: Path) -> None:
    said = called(root, tmp_path, "driver", "--properties-file", "/opt/spark/conf/spark.properties", "job.py", "a b")
    assert said[:3] == ["bin/spark-submit", "--deploy-mode", "client"]
    assert "spark.driver.bindAddress=10.0.0.1" in said
    assert said[-4:] == ["--properties-file", "/opt/spark/conf/spark.properties", "job.py", "a b"]


def test_an_executor_is_a_java_with_what_stands_in_variables(root: Path, tmp_path: Path) -> None:
    said = called(root, tmp_path, "executor")
    assert said[:5] == ["bin/java", "-Da=b c", "-De", "-Xms4096m", "-Xmx4096m"]
    classpath = said[said.index("-cp") + 1].split(":")
    assert classpath[0] == "/opt/spark/conf"
    assert f"{tmp_path}/jars/*" in classpath
    options = said[said.index("org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend") + 1 :]
    assert dict(zip(options[::2], options[1::2], strict=True)) == {
        "--driver-url": "spark://x@h:1",
        "--executor-id": "3",
        "--cores": "4",
        "--app-id": "spark-1",
        "--hostname": "10.0.0.2",
        "--resourceProfileId": "0",
        "--podName": "pod-3",
    }


@pytest.mark.parametrize("file", ["docker/entrypoint.sh", "conf/log4j2.properties", "requirements.txt"])
def test_the_image_copies_files_that_are_there(root: Path, file: str) -> None:
    assert file in (root / "docker" / "Dockerfile").read_text()
    assert (root / file).is_file()


def test_properties_of_pods_name_a_file_of_the_image(root: Path) -> None:
    named = "-Dlog4j2.configurationFile=/opt/dedup/log4j2.properties"
    assert (root / "conf" / "kubernetes.conf").read_text().count(named) == 2
