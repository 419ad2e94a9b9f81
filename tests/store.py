"""A real S3 server on loopback, versitygw, whose buckets are folders; and a proxy before it that has faults."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.lacking import without

KEY, SECRET = "alice", "a secret of hers"


def environment(port: int, secret: str = SECRET) -> dict[str, str]:
    """Return the variables by which clients find a store."""
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Store:
    """The server; it can be killed and started again.

    Parameters
    ----------
    folder
        Where it keeps its buckets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def bucket(self, name: str) -> Path:
        """Make a bucket, and return the folder that holds its objects."""
        made = self.folder / name
        made.mkdir(parents=True)
        return made

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        program = shutil.which("versitygw", path=f"{os.environ['PATH']}:{Path.home()}/go/bin")
        if program is None:
            without("s3", "no S3 server: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0")
        self.folder.mkdir(parents=True, exist_ok=True)
        address = ("--port", f"127.0.0.1:{self.port}")
        secrets = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *address, "posix", str(self.folder)], env=os.environ | secrets, stdout=log, stderr=log
            )
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError("the S3 server does not answer")

    def kill(self) -> None:
        """End the server as a machine ends that loses its power."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


BREAK = -1.0
"""The fault of an answer that breaks off after half of its bytes."""

Fault = int | float | str
"""A status, an int, to refuse with; the code of a refusal that says why, with status 403; seconds, a float, to wait."""


def none(_: int) -> float:
    """Let every request through at once."""
    return 0.0


class Gateway:
    """A proxy before a store that answers some requests with an error, and some late. Its port outlives the stores."""

    def __init__(self) -> None:
        self.stand_before(None)
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # the body of an answer waited 40 ms for the client to have its head

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline().partition(b";")[0], 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    while self.rfile.readline().strip():
                        pass
                with lock:
                    outer.requests += 1
                    found = outer.fault(outer.requests)
                    if isinstance(found, int | str):
                        outer.refused[re.split("[ /]", self.headers.get("User-Agent", ""))[0]] += 1
                    outer.late += isinstance(found, float) and found > 0
                    store = outer.store
                if isinstance(found, int | str) or store is None:
                    said = f"<Error><Code>{found}</Code></Error>".encode() if isinstance(found, str) else b""
                    status = found if isinstance(found, int) else 403 if said else 503
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(said)))
                    self.end_headers()
                    self.wfile.write(b"" if self.command == "HEAD" else said)
                    return
                time.sleep(max(found, 0.0))
                try:
                    self.pass_on(store, body, broken=found == BREAK and self.command == "GET")
                except ConnectionError:  # the store is dead: so is the line
                    self.close_connection = True

            def pass_on(self, store: Store, body: bytes, broken: bool) -> None:
                there = http.client.HTTPConnection("127.0.0.1", store.port, timeout=60)
                there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in {"connection", "expect", "transfer-encoding", "content-length"}:
                        there.putheader(name, value)
                if body or self.command in {"PUT", "POST"}:
                    there.putheader("Content-Length", str(len(body)))
                there.endheaders(body)
                answer = there.getresponse()
                content = answer.read()
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
                if length is not None:
                    self.send_header("Content-Length", length)
                self.end_headers()
                if broken:
                    outer.broken += 1
                    self.close_connection = True
                    content = content[: len(content) // 2]
                self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stand_before(self, store: Store | None, fault: Callable[[int], Fault] = none) -> None:
        """Send requests to a store from now on.

        Parameters
        ----------
        store
            Where requests go.
        fault
            Given the number of a request, from 1 up, what becomes of it; BREAK, where it asks for bytes.
        """
        self.store, self.fault = store, fault
        self.refused: Counter[str] = Counter()  #: how often each client was, by what it calls itself
        self.late = self.broken = self.requests = 0

    def close(self) -> None:
        """End the proxy."""
        self._server.shutdown()
        self._server.server_close()
