"""`selfreward serve` as a process: the address on one line, events over a socket, clean ends."""

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def served(directory: Path, *options: str, token: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = {**os.environ, **({"SELFREWARD_TOKEN": token} if token else {})}
    command = [sys.executable, "-m", "selfreward", "serve", "--dir", str(directory), "--port", "0", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    guard = threading.Timer(30, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        guard.cancel()
        process.kill()
        process.communicate()


def test_it_prints_its_address_answers_sends_events_and_ends_cleanly(done_run: Path) -> None:
    with served(done_run, token="a long enough token") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}runs/main", timeout=10) as page:
            assert b"Iterations" in page.read()
        with urllib.request.urlopen(f"{address}runs/main/events", timeout=10) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.readline() == b"event: progress\r\n"
            assert b"live-mood" in stream.readline()
            process.send_signal(signal.SIGTERM)  # while somebody looks
            assert process.wait(timeout=10) == 0


def test_ctrl_c_is_a_clean_end_too(done_run: Path) -> None:
    with served(done_run) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_a_port_in_use_names_the_way_out(done_run: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with served(done_run, "--port", str(taken.getsockname()[1])) as (process, _):
            assert process.wait(timeout=10) == 2
            assert process.stderr is not None
            told = process.stderr.read()
    assert "--port 0" in told and "Traceback" not in told


def test_another_name_is_refused_over_the_wire(done_run: Path) -> None:
    with served(done_run) as (_, address):
        request = urllib.request.Request(address, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == 400
        refused.value.close()
