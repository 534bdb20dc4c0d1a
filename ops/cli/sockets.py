"""The address at which the web process listens."""

import socket

from worker.errors import SettingsError


def require_free(host: str, port: int) -> None:
    """Fail at once if the port is in use, instead of restarting a server that cannot listen.

    Raises:
        SettingsError: it is, or the address is none of this machine.
    """
    _bind(host, port).close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections, for several processes to share.

    Raises:
        SettingsError: the address is in use, or none of this machine.
    """
    listening = _bind(host, port)
    listening.listen(2048)
    return listening


def _bind(host: str, port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        reason = error.strerror or "cannot be used"
        raise SettingsError(
            f"WITHDRAWALS_HOST, WITHDRAWALS_PORT: {host}:{port}: {reason}. Set another port, or stop what uses it."
        ) from None
    return found
