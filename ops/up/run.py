"""The run of `up`: servers, migration, processes; then supervision until it is stopped."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from embedded import Postgres, Valkey
from ops.cli import console
from ops.cli.pluggy import pluggy as asking_pluggy
from ops.cli.refusals import explain_refusal
from ops.demo.processes import ARQ_WORKER, SIMULATOR, WEBHOOK_RECEIVER
from ops.demo.processes import OPS as OPS_PROCESS
from ops.demo.stage import ignore_signals, stop_on_every_signal
from ops.migrations import migrate
from ops.roles import OPS, RECEIVER, WORKER, as_role
from ops.up.advice import summary
from ops.up.data_directory import DataDirectory, data_directory
from ops.up.output import Output
from ops.up.settings import (
    LOOPBACK,
    SIMULATED,
    Ports,
    UpOptions,
    choose_ports,
    is_given,
    read_settings,
    refuse_what_is_missing,
    simulated,
)
from ops.up.supervisor import Supervisor, UnitFailed
from ops.up.units import EmbeddedServer, Process
from webhook_receiver.settings import ReceiverSettings
from worker.infra.redis_client import connect
from worker.infra.settings import Environment
from worker.maintenance.installation import check_installation
from worker.pluggy_api.errors import PluggyError, PluggyHalt

INTERRUPTED: Final = 130
START_TIMEOUT_S: Final = 60.0
POLL_INTERVAL_S: Final = 0.02
DRAIN_TIMEOUT_S: Final = 45.0
"""Longer than a worker waits for its jobs."""


@dataclass(frozen=True, slots=True)
class Up:
    """What is needed to start everything; given: variables that `up` sets for all processes."""

    options: UpOptions
    output: Output
    supervisor: Supervisor
    ports: Ports
    given: dict[str, str]
    receiver: ReceiverSettings

    def start(self, directory: DataDirectory | None) -> None:
        """Servers first, the receiver last, and the other way round when all is stopped.

        Raises UnitFailed, CommandFailed.
        """
        self._start_servers(directory)
        self._migrate()
        if self.options.simulator:
            self._start_simulator()
        else:
            self._try_keys()
        address = {"OPS_HOST": LOOPBACK, "OPS_PORT": self.ports.ops}
        ops = self._process("ops", OPS_PROCESS, OPS, **address)
        self._start_listening(ops, self.ports.ops)
        numbers = range(1, self.options.workers + 1)
        self.supervisor.start(*(self._worker(number) for number in numbers))
        receiver = self._process("receiver", WEBHOOK_RECEIVER, RECEIVER, PORT=self.ports.receiver)
        self._start_listening(receiver, self.ports.receiver)

    def _start_servers(self, directory: DataDirectory | None) -> None:
        if directory is None:
            return
        directory.await_servers()
        servers = {
            "REDIS_URL": Valkey(directory.path / "valkey", durable=True),
            "DATABASE_URL": Postgres(directory.path / "postgres", durable=True),
        }
        for variable, server in servers.items():
            if not is_given(variable):
                self.supervisor.start(EmbeddedServer(server))
                self.given[variable] = server.url
        if "DATABASE_URL" in self.given:
            self.given["DATABASE_DIRECT_URL"] = self.given["DATABASE_URL"]

    def _migrate(self) -> None:
        """Raises CommandFailed, also where the database mirrors another application, or a Redis
        that was given does not answer."""

        async def migrate_and_check() -> None:
            if "REDIS_URL" not in self.given:
                async with connect(pluggy.redis_url.get_secret_value()) as redis:
                    await redis.ping()
            await migrate(environment.direct_url, roles=self.has_own_postgres)
            async with console.database(environment) as db:
                await check_installation(db, pluggy.pluggy_client_id, pluggy.pluggy_base_url)

        pluggy, _, _ = read_settings(self.given)
        environment: Environment = pluggy
        console.run(migrate_and_check())

    def _try_keys(self) -> None:
        """Raises CommandFailed if Pluggy refuses the keys; one that is away is waited for."""

        async def ask() -> None:
            async with asking_pluggy(settings, explain_refusal) as (_, client):
                try:
                    await client.probe(new_key=True, count=lambda: None)
                except PluggyHalt:
                    raise
                except PluggyError as error:
                    self.output.say(f"{explain_refusal(error)}; the workers ask again")

        settings, _, _ = read_settings(self.given)
        console.run(ask())

    @property
    def has_own_postgres(self) -> bool:
        """Else it is somebody's, and roles are no part of a database: none are made there."""
        return "DATABASE_URL" in self.given

    def _start_simulator(self) -> None:
        port = self.ports.simulator
        # Another seed at each start: the same one would give new items the ids of earlier ones.
        seed = str(secrets.randbits(31))
        command = (*SIMULATOR, "--port", str(port), "--seed", seed, "--rate-limit", "0")
        simulator = self._process(
            "simulator",
            command,
            SIMULATOR_WEBHOOK_URL=self.given["WEBHOOK_URL"],
            SIMULATOR_WEBHOOK_SECRET=self.receiver.secrets[0],
            SIMULATOR_WEBHOOK_SECRET_HEADER=self.receiver.webhook_secret_header,
        )
        self._start_listening(simulator, port)

    def _worker(self, number: int) -> Process:
        worker = self._process(f"worker-{number}", ARQ_WORKER, WORKER)
        worker.stop_timeout_s, worker.finishes = DRAIN_TIMEOUT_S, "its syncs"
        return worker

    def _start_listening(self, process: Process, port: int) -> None:
        """Start it alone, and wait until it listens. Raises UnitFailed."""
        self.supervisor.start(process)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not listens(port):
            if not process.running or time.monotonic() > deadline:
                raise UnitFailed(f"{process.name} did not start:\n{process.tail()}")
            time.sleep(POLL_INTERVAL_S)

    def _process(
        self, name: str, command: tuple[str, ...], role: str | None = None, **variables: object
    ) -> Process:
        """A module of ours. -P: none is taken from the directory that `up` was started in."""
        given = self.given | {key: str(value) for key, value in variables.items()}
        if role and self.has_own_postgres:
            given["DATABASE_URL"] = as_role(given["DATABASE_URL"], role)
        inherited = {k: v for k, v in os.environ.items() if k.removesuffix("_FILE") not in given}
        given["LOG_FORMAT"] = "json" if self.output.as_json else "console"
        if not sys.stdout.isatty():
            given["NO_COLOR"] = "1"
        command = (sys.executable, "-P", "-m", *command)
        return Process(name, command, {**inherited, **given}, self.output.relay)


def run_up(options: UpOptions, output: Output) -> int:
    """Run until a signal ends it; returns the exit status.

    Raises UpRefused, DirectoryRefused, SettingsError, CommandFailed, UnitFailed, GaveUp.
    """
    refuse_what_is_missing(options)
    _stop_on_signals()
    with ExitStack() as stack:
        directory = None
        if options.data_dir is not None:
            directory = stack.enter_context(data_directory(options.data_dir))
        given, new_secret = _secret(directory)
        _, receiver, ops = read_settings(given | (SIMULATED if options.simulator else {}))
        ports = choose_ports(receiver.port, ops.ops_port)
        if options.simulator:
            given |= simulated(ports)
        up = Up(options, output, Supervisor(output.say), ports, given, receiver)
        return _run(up, directory, new_secret)


def _run(up: Up, directory: DataDirectory | None, new_secret: str | None) -> int:
    """A signal or a failure stops everything in order, a second signal at once."""
    try:
        try:
            up.start(directory)
            if directory is not None:
                directory.write_environment(_for_other_commands(up.given, directory))
            up.output.say(summary(up.options, up.ports, up.given, directory, new_secret))
            up.supervisor.watch()
        except KeyboardInterrupt:
            up.output.say("stopping; Ctrl-C again ends everything at once")
        finally:
            up.supervisor.stop()
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        ignore_signals()
        up.supervisor.kill()
    return 0


def _stop_on_signals() -> None:
    """A closed terminal is a signal too, but not for what nohup has started."""
    ignores_hangup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    stop_on_every_signal()
    if ignores_hangup:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _secret(directory: DataDirectory | None) -> tuple[dict[str, str], str | None]:
    """The webhook secret as a setting, unless the environment has one; and itself to show it."""
    if directory is None or is_given("WEBHOOK_SECRET"):
        return {}, None
    made = directory.make_secret()
    return {"WEBHOOK_SECRET": directory.secret_file.read_text().strip()}, made


def _for_other_commands(given: Mapping[str, str], directory: DataDirectory) -> dict[str, str]:
    """All that `up` has set, the secret by its file."""
    variables = {name: value for name, value in given.items() if name != "WEBHOOK_SECRET"}
    if "WEBHOOK_SECRET" in given:
        variables["WEBHOOK_SECRET_FILE"] = str(directory.secret_file)
    return variables


def listens(port: int) -> bool:
    """Whether connections to a port of this machine are taken."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1.0).close()
    except OSError:
        return False
    return True
