"""Choose a free TCP port on 127.0.0.1."""

import socket


def free_port() -> int:
    """One that was free a moment ago; whoever starts a server on it must be ready to try again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
