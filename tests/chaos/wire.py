"""A proxy on a wire between two processes, which chaos cuts, deafens, delays or keeps closed."""

from __future__ import annotations

import asyncio

from tests.support.proxy import Proxy


class Wire(Proxy):
    """Forwards each piece delay_s late; takes no connection while it is refusing."""

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self.delay_s = 0.0
        self.refusing = False

    def cut(self) -> None:
        """What is connected now is reset."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self.refusing:
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers += [writer, far_writer]
        for source, target in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._carry(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(2**16):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                target.write(data)
                await target.drain()
        except OSError:
            target.transport.abort()
        # Not when it is cancelled: then the connection stays open, and deaf.
        target.close()
        if target in self._writers:
            self._writers.remove(target)
