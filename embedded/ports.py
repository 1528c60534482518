"""Choose a free TCP port on 127.0.0.1."""

import socket


def free_port() -> int:
    """A port that was free a moment ago; callers must retry if it is taken meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
