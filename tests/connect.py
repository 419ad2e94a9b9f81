"""A server of Spark Connect on loopback, in a process of its own: what its sessions have of Spark is a wire."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyspark
from tests.store import free_port

_SERVER = "org.apache.spark.sql.connect.service.SparkConnectServer"


@contextmanager
def serving(properties: Mapping[str, str], variables: Mapping[str, str], log: Path) -> Iterator[str]:
    """Start a server of two cores, and give the address for `SparkSession.builder.remote`.

    Parameters
    ----------
    properties
        Of Spark.
    variables
        What the server and its Python workers find in their environment, beside that of the tests.
    log
        Where it writes what it says.
    """
    port = free_port()
    own = {"spark.connect.grpc.binding.address": "127.0.0.1", "spark.connect.grpc.binding.port": str(port)}
    options = [word for name, value in {**properties, **own}.items() for word in ("--conf", f"{name}={value}")]
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    command = [str(submit), "--master", "local[2]", *options, "--class", _SERVER, "spark-internal"]
    with log.open("wb") as file:
        server = subprocess.Popen(command, env=os.environ | variables, stdout=file, stderr=file, cwd=log.parent)
    try:
        _wait(server, port, log)
        yield f"sc://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"the server of Spark Connect does not answer: {log.read_text()[-2000:]}")
