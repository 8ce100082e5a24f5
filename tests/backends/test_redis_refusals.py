"""What a server may answer instead of serving, and what must never be written down."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import sys
import textwrap
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fastapi_prodkit import ConfigurationError, RedisBackend, TieredBackend, UnavailableError
from fastapi_prodkit.backends import backend_from_url
from fastapi_prodkit.typing import Algorithm, Charge, Limit
from tests.servers import RedisServer, free_port

from .outage import until_served

SECRET = "hunter2/p@ss:w%rd#?&"
QUOTED = quote(SECRET, safe="")


@pytest.fixture
def locked_server() -> Iterator[RedisServer]:
    """A server that wants a password."""
    server = RedisServer(arguments=["--requirepass", SECRET]).start()
    yield server
    server.close()


@pytest.fixture
def nothing_leaks(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[object], None]]:
    """Check objects and errors as they come; the log is checked at the end."""
    caplog.set_level(logging.DEBUG)

    def check(thing: object) -> None:
        text = repr(thing)
        if isinstance(thing, BaseException):
            text += "".join(traceback.format_exception(thing))
        assert "hunter2" not in text

    yield check
    assert "hunter2" not in caplog.text


def _url(server: RedisServer, password: str) -> str:
    return f"redis://:{password}@127.0.0.1:{server.port}/0"


async def test_a_password_with_special_characters_opens(
    locked_server: RedisServer, nothing_leaks: Callable[[object], None]
) -> None:
    async with RedisBackend(_url(locked_server, QUOTED), timeout=5) as backend:
        await backend.store.set("key", b"1", ttl=60)
        assert await backend.store.get("key") == [b"1"]
        for each in (backend, backend.store, backend.bus, backend.counters):
            nothing_leaks(each)


@pytest.mark.parametrize("password", ["hunter2-wrong", ""], ids=["wrong", "none"])
async def test_refused_credentials_stop_the_start_and_say_so(
    locked_server: RedisServer, password: str, nothing_leaks: Callable[[object], None]
) -> None:
    with pytest.raises(ConfigurationError, match="credentials") as caught:
        async with RedisBackend(_url(locked_server, password)):
            pytest.fail("it opened")
    nothing_leaks(caught.value)


async def test_a_password_for_a_server_without_one_stops_the_start(redis_server: RedisServer) -> None:
    with pytest.raises(ConfigurationError, match="credentials"):
        async with RedisBackend(_url(redis_server, QUOTED)):
            pytest.fail("it opened")


async def test_a_password_that_changed_while_serving_degrades_and_is_logged_once(
    locked_server: RedisServer,
    nothing_leaks: Callable[[object], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        RedisBackend(_url(locked_server, QUOTED), timeout=0.5) as backend,
        RedisBackend(_url(locked_server, QUOTED), timeout=0.5) as janitor,
    ):
        wire = janitor._wire
        await wire.call("CONFIG", "SET", "requirepass", "another")
        await wire.call("CLIENT", "KILL", "TYPE", "normal")
        for _ in range(40):
            with pytest.raises(UnavailableError) as caught:
                await backend.store.get("key")
            nothing_leaks(caught.value)
            await asyncio.sleep(0.02)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([line for line in said if "commands" in line and "AuthenticationError" in line]) == 1


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2/x@127.0.0.1:6379",
        "redis://:hunter2@127.0.0.1:hunter2",
        "redis://:hunter2@127.0.0.1:6379/?unheard_of=hunter2",
        "redis+cluster://:hunter2@127.0.0.1:hunter2",
        "redis+cluster://user:hunter2/x@127.0.0.1:6379",
        "redis+sentinel://:hunter2@127.0.0.1:26379",
        "redis+sentinel://:hunter2@[::1/service",
        "redis+sentinel://:hunter2@127.0.0.1:26379/service/0?unheard_of=hunter2",
        "rediss://:hunter2@[::1",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_being_repeated(
    url: str, nothing_leaks: Callable[[object], None]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        backend_from_url(url)
    nothing_leaks(caught.value)


def test_an_environment_variable_that_is_not_set_is_no_url() -> None:
    with pytest.raises(ConfigurationError, match="the URL is a NoneType: give a string"):
        backend_from_url(None)  # type: ignore[arg-type]  # the point


async def test_an_absent_server_is_reported_without_the_password(
    nothing_leaks: Callable[[object], None], caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisBackend(f"redis://:{QUOTED}@127.0.0.1:{free_port()}") as backend:
        with pytest.raises(UnavailableError) as caught:
            await backend.store.get("key")
        nothing_leaks(caught.value)
    assert "is away" in caplog.text


async def test_a_server_out_of_memory_refuses_writes_and_goes_on_reading(fault_server: RedisServer) -> None:
    async with RedisBackend(fault_server.url, timeout=5) as backend:
        await backend.store.set("key", b"1", ttl=60)
        fault_server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        fault_server.command("CONFIG", "SET", "maxmemory", "1")
        received = (
            fault_server.command("INFO", "stats").split("total_connections_received:")[1].split("\r")[0]
        )
        with pytest.raises(UnavailableError, match="OutOfMemory"):
            await backend.store.set("another", b"x", ttl=60)
        assert await backend.store.get("key") == [b"1"]
        stats = fault_server.command("INFO", "stats")
        assert f"total_connections_received:{int(received) + 1}\r" in stats  # this one; ours stayed


async def test_a_replica_that_refuses_writes_is_left_and_asked_anew(fault_server: RedisServer) -> None:
    async with RedisBackend(fault_server.url, timeout=5) as backend:
        fault_server.command("REPLICAOF", "127.0.0.1", str(free_port()))
        with pytest.raises(UnavailableError, match="ReadOnly"):
            await backend.store.set("key", b"1", ttl=60)
        fault_server.command("REPLICAOF", "NO", "ONE")
        assert await until_served(lambda: backend.store.set("key", b"1", ttl=60)) < 2


async def test_a_server_that_is_loading_counts_as_away(fault_server: RedisServer) -> None:
    fault_server.command("CONFIG", "SET", "rdbcompression", "no")
    for number in range(20):
        fault_server.command("SET", f"prodkit:k{number}", "1" * 2048)
    fault_server.command("SAVE")
    fault_server.kill()
    fault_server._arguments = ["--key-load-delay", "50000", "--loading-process-events-interval-bytes", "1024"]
    fault_server.start()
    assert "loading:1" in fault_server.command("INFO", "persistence")
    async with RedisBackend(fault_server.url, timeout=5) as backend:
        with pytest.raises(UnavailableError):
            await backend.store.get("k1")
        assert await until_served(lambda: backend.store.get("k1")) < 5
        assert await backend.store.get("k1") == [b"1" * 2048]


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "prodkit test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    written = folder / "cert.pem", folder / "key.pem"
    written[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    written[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return written


@asynccontextmanager
async def _tls_in_front_of(server: RedisServer, certificate: Path, key: Path) -> AsyncIterator[int]:
    """The port of what takes TLS off; not every server binary is built with it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pump(reader, inner[1]), pump(inner[0], writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as front:
        yield front.sockets[0].getsockname()[1]


async def test_tls_is_verified_and_its_options_come_from_the_url(
    redis_server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = _certificate(tmp_path)
    async with _tls_in_front_of(redis_server, certificate, key) as port:
        trusting = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={quote(str(certificate))}"
        async with RedisBackend(trusting, timeout=5) as backend:
            await backend.store.set("key", b"1", ttl=60)
            assert await backend.store.get("key") == [b"1"]
            async with backend.bus.subscribe("room") as messages:
                await backend.bus.publish("room", b"hello")
                assert await anext(messages) == b"hello"
        async with RedisBackend(f"rediss://127.0.0.1:{port}/0") as doubting:
            with pytest.raises(UnavailableError):
                await doubting.store.get("key")
        assert "certificate verify failed" in caplog.text.lower()


def test_a_process_that_forked_leaves_its_parents_connection_alone(redis_url: str) -> None:
    script = """
        import asyncio, gc, os, sys
        from fastapi_prodkit import ConfigurationError, RedisBackend

        backend = RedisBackend(sys.argv[1], timeout=5)

        async def child():
            try:
                await backend.store.get("key")
            except ConfigurationError:
                pass
            async with backend:
                gc.collect()
                await backend.store.set("key", b"child", ttl=60)
                assert await backend.store.get("key") == [b"child"]

        async def parent():
            async with backend:
                await backend.store.set("key", b"parent", ttl=60)
                pid = os.fork()
                if pid == 0:
                    asyncio.run(child())
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
                for _ in range(3):
                    assert await backend.store.get("key") == [b"child"]

        if os.fork() == 0:  # constructed before, entered after: a preloading server
            asyncio.run(child())
            os._exit(0)
        assert os.wait()[1] == 0
        asyncio.run(parent())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), redis_url], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")


async def test_a_user_with_the_documented_rights_can_do_everything(redis_server: RedisServer) -> None:
    page = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text()
    rights = page.partition("```text\n")[2].partition("```")[0].split()
    assert "+evalsha" in rights
    redis_server.command("ACL", "SETUSER", "shop", "reset", "on", f">{SECRET}", *rights)
    url = f"redis://shop:{QUOTED}@127.0.0.1:{redis_server.port}/0"
    algorithms: list[Algorithm] = ["gcra", "sliding", "moving", "concurrent"]
    limits = tuple(Limit(each, 10, 60, 10, each) for each in algorithms)
    async with TieredBackend(RedisBackend(url, timeout=5)) as backend:
        await backend.store.set("key", b"1", ttl=60)
        assert await backend.store.get("key", "another") == [b"1", None]
        assert await backend.store.add("lease", b"mine", ttl=60) == b"mine"
        assert await backend.store.release("lease", b"mine")
        await backend.store.delete("key")
        charge = Charge("ada", limits, token="one")
        assert all(verdict.admitted for verdict in await backend.counters.weigh(charge))
        async with backend.bus.subscribe("room") as messages:
            await backend.bus.publish("room", b"hello")
            assert await anext(messages) == b"hello"
