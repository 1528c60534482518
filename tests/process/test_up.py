"""`up` as a supervisor: restarts with back-off, giving up, order of stop, data directory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from embedded import guard
from ops.cli.main import main
from ops.up.advice import summary
from ops.up.data_directory import DataDirectory, DirectoryRefused, data_directory
from ops.up.output import Output
from ops.up.settings import Ports, UpOptions, UpRefused, choose_ports, read_settings
from ops.up.supervisor import GaveUp, Patience, Restarts, Supervised, Supervisor
from ops.up.units import Process, ending, labelled
from tests.support.ops import ops_environment
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import CLIENT_SECRET
from worker.infra.settings import SettingsError

ENDS_AT_ONCE = "print('no database'); raise SystemExit(3)"
ENDS_ON_SIGTERM = (
    "import signal; ask = [signal.SIGTERM]; signal.pthread_sigmask(signal.SIG_BLOCK, ask);"
    " print('ready'); signal.sigwait(ask); print('ended')"
)
IGNORES_SIGTERM = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " print('ready'); [signal.pause() for _ in iter(int, 1)]"
)
SETTINGS = ("DATABASE_URL", "REDIS_URL", "PLUGGY_CLIENT_ID", "PLUGGY_CLIENT_SECRET",
            "WEBHOOK_SECRET", "WEBHOOK_URL", "PORT", "OPS_PORT")  # fmt: skip


class Lines:
    """What processes have written, in order."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._changed = threading.Condition()

    def relay(self, name: str, line: str) -> None:
        with self._changed:
            self.seen.append(f"{name}: {line}")
            self._changed.notify_all()

    def note(self, line: str) -> None:
        self.relay("up", line)

    def await_line(self, line: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: line in self.seen, timeout=60), self.seen


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def supervisor(lines: Lines) -> Iterator[Supervisor]:
    supervisor = Supervisor(lines.note)
    yield supervisor
    supervisor.kill()


def process(name: str, program: str, lines: Lines) -> Process:
    return Process(name, [sys.executable, "-c", program], os.environ, lines.relay)


def ended(unit: Process) -> Process:
    """Started, and at its end, with all that it has written."""
    unit.start()
    wait_for_end(unit)
    return unit


def wait_for_end(unit: Process) -> None:
    assert unit._guard is not None
    assert unit._reader is not None
    unit._guard.wait(60)
    unit._reader.join(60)


def test_pauses_double_up_to_half_a_minute() -> None:
    restarts = Restarts(Patience())
    assert [restarts.pause_after(61) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_run_of_ten_minutes_ends_the_doubling() -> None:
    restarts = Restarts(Patience())
    assert [restarts.pause_after(ran_s) for ran_s in (61, 61, 601, 61)] == [1, 2, 1, 2]


def test_five_short_runs_are_too_many() -> None:
    restarts = Restarts(Patience())
    assert [restarts.pause_after(59) for _ in range(5)] == [1, 2, 4, 8, None]


def test_short_runs_count_only_in_a_row() -> None:
    restarts = Restarts(Patience())
    assert None not in [restarts.pause_after(ran_s) for ran_s in (1, 1, 1, 1, 61, 1, 1, 1, 1)]


def test_what_has_ended_is_started_again_when_its_pause_is_over(lines: Lines) -> None:
    unit = ended(process("worker-1", ENDS_AT_ONCE, lines))
    supervised = Supervised(unit, Restarts(Patience()), lines.note, started_at=100.0)
    supervised.tend(110.0)
    assert "up: worker-1 has ended with exit status 3; started again in 1 s" in lines.seen
    supervised.tend(110.9)
    assert not unit.running
    assert lines.seen.count("worker-1: no database") == 1
    supervised.tend(111.1)
    wait_for_end(unit)
    unit.finish(lines.note)
    assert lines.seen.count("worker-1: no database") == 2
    assert supervised.due_at is None


def test_a_unit_that_keeps_ending_is_given_up_with_its_last_lines(lines: Lines) -> None:
    unit = ended(process("worker-1", ENDS_AT_ONCE, lines))
    supervised = Supervised(unit, Restarts(Patience(max_short_runs=2)), lines.note, 100.0)
    supervised.tend(110.0)
    supervised.tend(112.0)
    wait_for_end(unit)
    with pytest.raises(
        GaveUp, match=r"(?s)keeps ending, last with exit status 3:.*worker-1 \| no database"
    ):
        supervised.tend(113.0)
    unit.finish(lines.note)


def test_watching_restarts_a_killed_process_until_it_is_interrupted(
    supervisor: Supervisor, lines: Lines
) -> None:
    def relay(name: str, line: str) -> None:
        lines.relay(name, line)
        if lines.seen.count("receiver: ready") == 2:
            os.kill(os.getpid(), signal.SIGINT)

    supervisor.patience = Patience(first_pause_s=0.0)
    unit = Process("receiver", [sys.executable, "-c", ENDS_ON_SIGTERM], os.environ, relay)
    supervisor.start(unit)
    lines.await_line("receiver: ready")
    assert unit._pid is not None
    guard.signal_all([unit._pid], signal.SIGKILL)
    with pytest.raises(KeyboardInterrupt):
        supervisor.watch()
    assert unit.running
    assert "up: receiver has ended by SIGKILL; started again in 0 s" in lines.seen


def test_groups_stop_one_after_the_other_the_last_started_first(
    supervisor: Supervisor, lines: Lines
) -> None:
    supervisor.start(process("ops", ENDS_ON_SIGTERM, lines))
    supervisor.start(*(process(f"worker-{n}", ENDS_ON_SIGTERM, lines) for n in (1, 2)))
    supervisor.start(process("receiver", ENDS_ON_SIGTERM, lines))
    for name in ("ops", "worker-1", "worker-2", "receiver"):
        lines.await_line(f"{name}: ready")
    begun = len(lines.seen)
    supervisor.stop()
    seen = [line for line in lines.seen[begun:] if not line.startswith("worker-")]
    assert seen == [
        "up: stopping receiver", "receiver: ended",
        "up: stopping worker-1", "up: stopping worker-2",
        "up: stopping ops", "ops: ended",
    ]  # fmt: skip
    workers = {"worker-1: ended", "worker-2: ended"}
    assert set(lines.seen[lines.seen.index("up: stopping worker-2") + 1 : -2]) | workers == workers


def test_a_process_that_ignores_sigterm_is_killed_when_its_time_is_over(
    supervisor: Supervisor, lines: Lines
) -> None:
    unit = process("worker-1", IGNORES_SIGTERM, lines)
    unit.silent_stop_s, unit.stop_timeout_s = 0.0, 0.05
    supervisor.start(unit)
    lines.await_line("worker-1: ready")
    supervisor.stop()
    assert not unit.running
    assert unit._pid not in guard.processes()


def test_a_wait_for_a_slow_end_is_explained_and_a_second_interrupt_ends_it(lines: Lines) -> None:
    def note(line: str) -> None:
        lines.note(line)
        if line.startswith("waiting for worker-1 to finish its syncs, 5 s at most; Ctrl-C"):
            os.kill(os.getpid(), signal.SIGINT)

    supervisor = Supervisor(note)
    unit = process("worker-1", IGNORES_SIGTERM, lines)
    unit.silent_stop_s, unit.stop_timeout_s, unit.finishes = 0.0, 5.0, "its syncs"
    supervisor.start(unit)
    lines.await_line("worker-1: ready")
    with pytest.raises(KeyboardInterrupt):
        supervisor.stop()
    assert unit.running
    supervisor.kill()
    assert unit._pid not in guard.processes()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0, " with exit status 0"),
        (1, " with exit status 1"),
        (256 - signal.SIGKILL, " by SIGKILL"),
        (256 - signal.SIGSEGV, " by SIGSEGV"),
        (-signal.SIGKILL, " by SIGKILL"),
        (None, ""),
    ],
)
def test_an_end_is_named_by_its_exit_status_or_its_signal(status: int | None, said: str) -> None:
    assert ending(status) == said


def test_a_line_carries_the_name_of_its_process() -> None:
    as_json = [
        labelled("worker-1", line, as_json=True)
        for line in ('{"event": "worker_started", "slots": 20}', "Traceback", "{}", '{"a')
    ]
    assert [json.loads(line)["process"] for line in as_json[:3]] == ["worker-1"] * 3
    assert json.loads(as_json[0])["slots"] == 20
    assert json.loads(as_json[1]) == {
        "process": "worker-1", "event": "output", "line": "Traceback",
    }  # fmt: skip
    assert labelled("worker-1", "Traceback", as_json=False) == "worker-1  | Traceback"


def test_lines_that_nobody_reads_any_more_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        Output(as_json=True).relay("receiver", "one")
        unread.flush()
        Output(as_json=True).relay("receiver", "two")


def test_a_data_directory_serves_one_up_at_a_time(tmp_path: Path) -> None:
    with (
        data_directory(tmp_path / "data") as first,
        pytest.raises(DirectoryRefused, match=rf"in use by another .*process {os.getpid()}\b"),
        data_directory(first.path),
    ):
        pass
    with data_directory(tmp_path / "data"):
        pass


def test_a_directory_with_files_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    with data_directory(tmp_path):
        (tmp_path / "postgres").mkdir()
    with data_directory(tmp_path):
        pass
    (tmp_path / "in-use").unlink()
    with pytest.raises(DirectoryRefused, match="was not made by"), data_directory(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"lost+found", "postgres"}


def test_a_webhook_secret_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    with data_directory(tmp_path / "data") as directory:
        made = directory.make_secret()
        assert made is not None
        assert len(made) >= 32
        assert directory.secret_file.read_text().strip() == made
        assert directory.secret_file.stat().st_mode & 0o777 == 0o600
        directory.write_environment({"A": "it's"})
        assert directory.environment_file.read_text() == "export A='it'\"'\"'s'\n"
        assert directory.environment_file.stat().st_mode & 0o777 == 0o600


def test_a_secret_of_a_start_that_failed_is_shown_by_the_next_one(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    made = directory.make_secret()
    assert made == directory.make_secret()
    directory.write_environment({})
    assert directory.make_secret() is None


def shown(directory: DataDirectory, secret: str | None, *, simulator: bool) -> str:
    options, ports = UpOptions(directory.path, simulator, 1), Ports(8080, 8090, 9000)
    return summary(options, ports, {"WEBHOOK_SECRET": "kept-secret"}, directory, secret)


def test_a_secret_is_shown_only_when_it_was_made(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    assert "brand-new-secret" in shown(directory, "brand-new-secret", simulator=True)
    assert "webhook secret" not in shown(directory, None, simulator=True)
    assert "kept-secret" not in shown(directory, None, simulator=True)


def test_without_a_public_address_the_tunnel_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WEBHOOK_URL", raising=False)
    advice = shown(DataDirectory(tmp_path), None, simulator=False)
    assert "WEBHOOK_URL is not set" in advice
    assert "cloudflared tunnel --url http://127.0.0.1:8080" in advice
    monkeypatch.setenv("WEBHOOK_URL", "https://hooks.example.com/webhooks/pluggy")
    assert "pluggy-sync webhooks register" in shown(DataDirectory(tmp_path), None, simulator=False)
    assert "tunnel" not in shown(DataDirectory(tmp_path), None, simulator=True)


def test_taken_ports_are_named_in_one_message() -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as one,
        closing(socket.create_server(("127.0.0.1", 0))) as other,
    ):
        port, ops = one.getsockname()[1], other.getsockname()[1]
        with pytest.raises(UpRefused, match=rf"port {port} \(PORT\) and {ops} \(OPS_PORT\)"):
            choose_ports(port, ops)


def test_one_port_for_both_is_refused() -> None:
    with pytest.raises(UpRefused, match="PORT and OPS_PORT are both 8080"):
        choose_ports(8080, 8080)


def run_up(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`up` as it ends by itself."""
    given = {"PORT": "0", "OPS_PORT": "0", "WEBHOOK_SECRET": "s" * 16, "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "ops", "up", *arguments]
    return subprocess.run(
        command, env=given | environment, capture_output=True, text=True, check=False
    )


def test_keys_that_pluggy_refuses_are_named(
    database_url: str, redis_url: str, quiet_simulator: SimulatorProcess
) -> None:
    refusal = {"match": "POST /auth", "kind": "status", "status": 403, "rate": 1.0}
    quiet_simulator.post("/_simulator/faults", refusal)
    try:
        done = run_up(**ops_environment(database_url, redis_url, quiet_simulator.url))
    finally:
        quiet_simulator.delete("/_simulator/faults")
    assert done.returncode == 1
    assert done.stderr.startswith("pluggy-sync: Pluggy refuses PLUGGY_CLIENT_ID"), done.stderr
    assert CLIENT_SECRET not in done.stdout + done.stderr


def test_a_redis_that_was_given_and_does_not_answer_is_named() -> None:
    nowhere = {"DATABASE_URL": "postgresql://[::1]:9/x", "REDIS_URL": "redis://:pass@127.0.0.1:9"}
    done = run_up("--simulator", **nowhere)
    assert done.returncode == 1
    assert done.stderr.startswith("pluggy-sync: Redis does not answer at REDIS_URL"), done.stderr
    assert "pass" not in done.stdout + done.stderr


def test_settings_of_the_processes_are_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = {"PLUGGY_CLIENT_ID": "a", "PLUGGY_CLIENT_SECRET": "b"}
    with pytest.raises(SettingsError, match="WEBHOOK_SECRET: each secret has at least 16"):
        read_settings(keys | {"WEBHOOK_SECRET": "short"})
    monkeypatch.setenv("PRODUCTS", "pix")
    with pytest.raises(SettingsError, match="PRODUCTS: pix unknown"):
        read_settings(keys | {"WEBHOOK_SECRET": "s" * 16})


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {}, "PLUGGY_CLIENT_ID and PLUGGY_CLIENT_SECRET are not set"),
        ([], {"PLUGGY_CLIENT_ID": "a"}, "PLUGGY_CLIENT_SECRET is not set"),
        (["--simulator"], {}, "DATABASE_URL and REDIS_URL are not set and no --data-dir"),
        (["--simulator"], {"DATABASE_URL": "x", "REDIS_URL": "x"}, "WEBHOOK_SECRET is not set"),
        (["--workers", "0"], {}, "0 is not in the range"),
    ],
)
def test_what_is_missing_is_said_in_one_message(
    arguments: list[str],
    environment: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    result: Result = CliRunner().invoke(main, ["up", *arguments], env=environment)
    assert result.exit_code != 0
    assert message in result.output
    assert "Traceback" not in result.output
