"""An embedded Valkey server, or Redis where that is installed."""

import json
import secrets
import signal
import socket
from pathlib import Path
from typing import ClassVar

from embedded.binaries import valkey_server
from embedded.directories import ServerDirectories, write_private
from embedded.server import Server


class Valkey(Server):
    """One Valkey server; when memory is full it refuses writes instead of evicting keys."""

    name: ClassVar = "Valkey"
    stop_signal: ClassVar = signal.SIGTERM
    abandon_signal: ClassVar = signal.SIGTERM

    def __init__(
        self, data_dir: Path | None = None, durable: bool = False, tcp: bool = False
    ) -> None:
        super().__init__(data_dir, durable, tcp)
        self._password = secrets.token_urlsafe(24) if tcp else ""

    def _prepare(self, directories: ServerDirectories) -> list[str]:
        self._choose_port()
        path = directories.run / "valkey.conf"
        write_private(path, self._configuration(directories), self._account)
        return [str(valkey_server(self._account)), str(path)]

    def _configuration(self, directories: ServerDirectories) -> str:
        # One directive per line; quoted strings have JSON's syntax.
        settings = {
            "bind": "127.0.0.1",
            "daemonize": "no",
            "dir": directories.data,
            "save": "",
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
        } | self._transport(directories)
        return "".join(
            f"{name} {json.dumps(str(value), ensure_ascii=False)}\n"
            for name, value in settings.items()
        )

    def _transport(self, directories: ServerDirectories) -> dict[str, object]:
        if self.tcp:
            return {"port": self.port, "requirepass": self._password}
        return {"port": 0, "unixsocket": self._socket_path(directories), "unixsocketperm": "700"}

    def _answers(self, directories: ServerDirectories) -> bool:
        """Whether the server answers PONG; while it loads its data it answers LOADING."""
        greeting = f"AUTH {self._password}\r\nPING\r\n" if self.tcp else "PING\r\n"
        family = socket.AF_INET if self.tcp else socket.AF_UNIX
        with socket.socket(family) as client:
            client.settimeout(1)
            try:
                client.connect(
                    ("127.0.0.1", self.port) if self.tcp else str(self._socket_path(directories))
                )
                client.sendall(greeting.encode())
                return b"+PONG" in client.recv(512)
            except OSError:
                return False

    def _url(self, directories: ServerDirectories) -> str:
        if self.tcp:
            return f"redis://:{self._password}@127.0.0.1:{self.port}/0"
        return f"unix://{self._socket_path(directories)}?db=0"

    def _socket_path(self, directories: ServerDirectories) -> Path:
        return directories.run / "valkey.sock"
