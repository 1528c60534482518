"""TCP proxies: one stops forwarding on demand, one cuts a connection at a given message."""

from __future__ import annotations

import asyncio
from typing import Self


class Proxy:
    """Forwards 127.0.0.1:port to another port; after cut_off() only new connections."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._hearing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()

    def cut_off(self) -> None:
        """Stop forwarding on current connections without closing them."""
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers += [writer, far_writer]
        for source, target in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(_pump(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


class CuttingProxy(Proxy):
    """Cuts the connection once, after that many messages of the client.

    unheard: before the server gets the last of them, else before the client gets the answer.
    """

    def __init__(self, target_port: int, *, at_message: int, unheard: bool) -> None:
        super().__init__(target_port)
        self._at_message = at_message
        self._unheard = unheard
        self.messages = 0

    @property
    def has_cut(self) -> bool:
        return self.messages >= self._at_message

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers += [writer, far_writer]
        answers = asyncio.create_task(_pump(far_reader, writer))
        self._tasks.add(answers)
        while data := await reader.read(2**16):
            self.messages += 1
            cut = self.messages == self._at_message
            if cut:
                answers.cancel()
            if not (cut and self._unheard):
                far_writer.write(data)
                await far_writer.drain()
            if cut:
                writer.transport.abort()
                break
        far_writer.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(2**16):
        target.write(data)
        await target.drain()
    target.close()
