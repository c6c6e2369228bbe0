"""Find ports nobody uses."""

import socket

from modelyard.cli.errors import Conflict


def open_listener(host: str, port: int, is_asked_for: bool) -> socket.socket:
    """Listen on `host:port`, or on the next free port after it when this one was not asked for.

    The API inherits the open socket. So two platforms that start at the same moment cannot pick the same port, and
    clients of an API that restarts wait for a moment instead of being refused. Raises `Conflict`.
    """
    for candidate in [port] if is_asked_for or port == 0 else range(port, min(port + 100, 65536)):
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(1024)
            return listener
        except OSError as error:
            listener.close()
            cause = error
    raise Conflict(f"Port {port} of {host} cannot be listened on ({cause}): choose another with --port") from cause


def choose_port(wished: int, host: str = "127.0.0.1") -> int:
    """`wished` if nobody listens there, otherwise any free port."""
    for candidate in (wished, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Conflict(f"{host} has no free port left")
