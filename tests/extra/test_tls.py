"""TLS to Postgres and Redis by URL: used, verified, and refused where it cannot be.

The embedded servers are built without TLS, so each stands behind a front that speaks nothing else.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

import embedded
from ops.migrations import migrate
from tests.support.receiver import SECRET, Client, ReceiverProcess, event_body
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess
from worker.infra.postgres import close_pool, open_pool
from worker.infra.redis_client import connect
from worker.wakeup.queue import ArqWaker

HANGS_AFTER_S = 60.0
pytestmark = pytest.mark.timeout(600)
SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)
SUBJECTS = {"server": "IP:127.0.0.1,DNS:localhost", "elsewhere": "DNS:elsewhere.example"}


@pytest.fixture(autouse=True)
def _a_busy_machine_connects_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.infra.postgres.CONNECT_TIMEOUT_S", HANGS_AFTER_S)


@pytest.fixture(scope="module")
def openssl() -> str:
    found = shutil.which("openssl")
    if found is None:
        pytest.fail("openssl is missing: apt-get install openssl")
    return found


@pytest.fixture(scope="module")
def papers(openssl: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, and what the first has signed: for us, and for somebody else."""
    at = tmp_path_factory.mktemp("papers")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=at, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
    for name in ("ca", "stranger"):
        run("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem",
            "-days", "2", "-subj", f"/CN={name}")  # fmt: skip
    for name, subjects in SUBJECTS.items():
        run("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
            "-addext", f"subjectAltName={subjects}")  # fmt: skip
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-out", f"{name}.pem", "-days", "2", "-copy_extensions", "copy")  # fmt: skip
    return at


@dataclass(slots=True)
class Front:
    """Ends TLS before a server. plain: how many came without."""

    host: str
    port: int
    certificate: ssl.SSLContext
    asks_first: bool
    plain: int = 0
    encrypted: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            if self.asks_first:
                if await reader.readexactly(8) != SSL_REQUEST:
                    self.plain += 1
                    writer.close()
                    return
                writer.write(b"S")
            await writer.start_tls(self.certificate)
            self.encrypted += 1
            to_server, from_us = await asyncio.open_connection(self.host, self.port)
            await asyncio.gather(pump(reader, from_us), pump(to_server, writer))
        writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def front(
    url: str, papers: Path, *, name: str = "server"
) -> AsyncIterator[tuple[Front, str]]:
    """A front of a server, and the URL that leads through it, without any parameter."""
    parts = urlsplit(url)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(papers / f"{name}.pem", papers / f"{name}.key")
    is_redis = parts.scheme == "redis"
    standing = Front(parts.hostname or "", parts.port or 0, context, asks_first=not is_redis)
    server = await asyncio.start_server(standing.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    netloc = f"{parts.netloc.rpartition(':')[0]}:{port}"
    scheme = "rediss" if is_redis else parts.scheme
    yield standing, urlunsplit(parts._replace(scheme=scheme, netloc=netloc))
    server.close()


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with embedded.database(None, tcp=True) as url:
        yield url


@pytest.fixture(scope="module")
def valkey() -> Iterator[str]:
    with embedded.redis(None, tcp=True) as url:
        yield url


async def reach(url: str) -> int:
    pool = await open_pool(url, max_size=1, statement_cache=0)
    try:
        return int(await pool.fetchval("SELECT 7"))
    finally:
        await close_pool(pool)


async def test_postgres_is_reached_by_tls_and_its_certificate_is_checked(
    postgres: str, papers: Path
) -> None:
    async with front(postgres, papers) as (standing, url):
        assert await reach(f"{url}?sslmode=require") == 7
        assert await reach(f"{url}?sslmode=verify-full&sslrootcert={papers}/ca.pem") == 7
        assert (standing.encrypted, standing.plain) == (2, 0)
        with pytest.raises(ssl.SSLCertVerificationError):
            await reach(f"{url}?sslmode=verify-full&sslrootcert={papers}/stranger.pem")
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await reach(f"{url}?sslmode=disable")
        assert standing.plain == 1
    async with front(postgres, papers, name="elsewhere") as (_, url):
        assert await reach(f"{url}?sslmode=verify-ca&sslrootcert={papers}/ca.pem") == 7
        with pytest.raises(ssl.SSLCertVerificationError):
            await reach(f"{url}?sslmode=verify-full&sslrootcert={papers}/ca.pem")


async def test_a_postgres_without_tls_is_refused_where_tls_is_asked_for(postgres: str) -> None:
    with pytest.raises(ConnectionError):
        await reach(f"{postgres}?sslmode=require")


async def wake(url: str) -> int:
    redis = connect(url, timeout_s=HANGS_AFTER_S)
    try:
        return await ArqWaker(redis).wake([uuid.uuid4()])
    finally:
        await redis.aclose()


async def test_redis_is_reached_by_tls_and_its_certificate_is_checked(
    valkey: str, papers: Path
) -> None:
    async with front(valkey, papers) as (standing, url):
        assert await wake(f"{url}?ssl_ca_certs={papers}/ca.pem") == 1
        assert await wake(f"{url}?ssl_cert_reqs=none") == 1
        assert standing.encrypted == 2
        for authority in ("stranger.pem", None):
            parameters = f"?ssl_ca_certs={papers}/{authority}" if authority else ""
            with pytest.raises(RedisConnectionError):
                await wake(url + parameters)
    async with front(valkey, papers, name="elsewhere") as (_, url):
        with pytest.raises(RedisConnectionError):
            await wake(f"{url}?ssl_ca_certs={papers}/ca.pem")


async def test_the_whole_service_runs_by_tls(
    postgres: str, valkey: str, papers: Path, quiet_simulator: SimulatorProcess
) -> None:
    await quiet_simulator.adelete("/_simulator/faults")
    made = await quiet_simulator.apost("/_simulator/items", {"transactions": 30})
    async with (
        front(postgres, papers) as (before_postgres, url),
        front(valkey, papers) as (before_redis, redis_url),
    ):
        database_url = f"{url}?sslmode=verify-full&sslrootcert={papers}/ca.pem"
        queue_url = f"{redis_url}?ssl_ca_certs={papers}/ca.pem"
        await migrate(database_url)
        async with (
            ReceiverProcess(
                DATABASE_URL=database_url, REDIS_URL=queue_url, WEBHOOK_SECRET=SECRET
            ) as receiver,
            WorkerProcess(database_url, queue_url, quiet_simulator.url) as worker,
            aiohttp.ClientSession() as session,
        ):
            receiver_client = Client(f"http://127.0.0.1:{await receiver.port()}", session)
            assert (await receiver_client.deliver(event_body(made["id"]))).status == 202
            pool = await open_pool(database_url, max_size=1, statement_cache=0)

            async def mirrored() -> bool:
                rows = "SELECT count(*) FROM pluggy_live.transactions"
                return bool(await pool.fetchval(rows) == 30)

            await until(mirrored)
            await close_pool(pool)
            receiver.stop()
            worker.stop()
            assert (await receiver.ended(), await worker.ended()) == (0, 0)
        assert before_postgres.encrypted > 3
        assert before_redis.encrypted > 1
        assert before_postgres.plain == 0
