"""Choose a free TCP port on 127.0.0.1, and keep it."""

import socket


def free_port() -> int:
    """A port that was free a moment ago; callers must retry if it is taken meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def reserve_port() -> socket.socket:
    """A socket whose port Linux gives to nobody who asks for any, until it is closed.

    A server that names the port may listen on it meanwhile, which other systems refuse.
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    return reservation
