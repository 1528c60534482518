"""An embedded Postgres server; its cluster is created at the first start."""

import ctypes
import secrets
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from embedded.binaries import postgres_bin
from embedded.directories import ServerDirectories, write_private
from embedded.server import Server

SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
# For speed: transactions committed just before a crash may be lost.
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
# Without a password only on the socket in the private directory.
SOCKET_RULES = "local all all trust\n"
TCP_RULES = "host all all 127.0.0.1/32 scram-sha-256\n"
# Any number names the socket; stating it overrides a client's PGPORT.
SOCKET_PORT = 5432
IPC_RMID = 0


class Postgres(Server):
    """One Postgres server with the database "postgres", locale C, UTF-8, UTC."""

    name: ClassVar = "Postgres"
    # Fast shutdown: ends sessions and writes a checkpoint.
    stop_signal: ClassVar = signal.SIGINT
    # Immediate shutdown: the next start recovers.
    abandon_signal: ClassVar = signal.SIGQUIT

    def _prepare(self, directories: ServerDirectories) -> list[str]:
        binaries = postgres_bin(self._account)
        if not (directories.data / "cluster").exists():
            self._make_cluster(binaries, directories)
        self._choose_port()
        rules = directories.run / "pg_hba.conf"
        write_private(rules, TCP_RULES if self.tcp else SOCKET_RULES, self._account)
        settings = SETTINGS | ({} if self.durable else NOT_DURABLE) | self._transport(directories)
        settings["hba_file"] = str(rules)
        command = [str(binaries / "postgres"), "-D", str(directories.data / "cluster")]
        return command + [
            word for key, value in settings.items() for word in ("-c", f"{key}={value}")
        ]

    def _transport(self, directories: ServerDirectories) -> dict[str, str]:
        if self.tcp:
            return {
                "listen_addresses": "127.0.0.1",
                "port": str(self.port),
                "unix_socket_directories": "",
            }
        return {
            "listen_addresses": "",
            "port": str(SOCKET_PORT),
            "unix_socket_directories": str(directories.run),
            "unix_socket_permissions": "0700",
        }

    def _make_cluster(self, binaries: Path, directories: ServerDirectories) -> None:
        """Create the cluster under another name, then rename: a partial one is never used."""
        unfinished = directories.data / "cluster.new"
        with suppress(FileNotFoundError):
            shutil.rmtree(unfinished)
        write_private(self._password_path(directories), secrets.token_urlsafe(24), self._account)
        command = [str(binaries / "initdb"), "-D", str(unfinished), "-U", "postgres"]
        command += ["--locale=C", "--encoding=UTF8", "--auth=scram-sha-256", "--no-instructions"]
        command += [f"--pwfile={self._password_path(directories)}"]
        self._run(command if self.durable else [*command, "--no-sync"], directories)
        unfinished.rename(directories.data / "cluster")

    def kill(self) -> None:
        """Kill as a crash would, and remove the shared memory segment of Postgres.

        Otherwise only the next start on this data would remove it. Its id is the last number on the
        seventh line of postmaster.pid.
        """
        super().kill()
        if self._directories and len(lines := self._lines_of_pid_file(self._directories)) >= 7:
            ctypes.CDLL(None).shmctl(int(lines[6].split()[-1]), IPC_RMID, None)

    def _answers(self, directories: ServerDirectories) -> bool:
        """Whether postmaster.pid shows a ready server: line 1 is its pid, line 8 its state."""
        lines = self._lines_of_pid_file(directories)
        return len(lines) >= 8 and lines[0] == str(self._pid) and lines[7].strip() == "ready"

    def _lines_of_pid_file(self, directories: ServerDirectories) -> list[str]:
        with suppress(FileNotFoundError):
            return (directories.data / "cluster" / "postmaster.pid").read_text().splitlines()
        return []

    def _url(self, directories: ServerDirectories) -> str:
        if self.tcp:
            password = self._password_path(directories).read_text()
            return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/postgres"
        return f"postgresql://postgres@/postgres?host={directories.run}&port={SOCKET_PORT}"

    def _password_path(self, directories: ServerDirectories) -> Path:
        return directories.data / "password"
