"""Redis servers of a test's own: one behind TLS, and a master with its replica and three Sentinels, all on loopback."""

import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ops.local.redis import find_program
from tests.support.scraping import free_port
from tests.world import PATIENCE, eventually

USER, PASSWORD = "withdrawals", "p@ss/word"
SENTINEL_PASSWORD = "of-sentinel"  # noqa: S105 - likewise
MASTER = "mymaster"
_ACCOUNT = f"user {USER} on >{PASSWORD} ~* &* +@all\nrequirepass {PASSWORD}\n"


class Server:
    """One redis-server process with a configuration file, which Sentinel rewrites."""

    def __init__(
        self, directory: Path, name: str, text: str, *, sentinel: bool = False, address: str = "127.0.0.1"
    ) -> None:
        self.address = address
        self.port = free_port()
        self._config = directory / f"{name}.conf"
        self._config.write_text(
            f"bind {address}\nport {self.port}\nlogfile {directory}/{name}.log\ndir {directory}\n{text}",
            encoding="utf-8",
        )
        self._command = [str(find_program()), str(self._config), *(["--sentinel"] if sentinel else [])]
        self._password = SENTINEL_PASSWORD if sentinel else PASSWORD
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._answers, what=f"{self._config.name} answers")

    def client(self) -> redis.Redis:
        return redis.Redis(self.address, self.port, password=self._password, socket_timeout=PATIENCE)

    def role(self) -> str:
        """`master`, `slave` or `sentinel`; empty while it does not answer."""
        with suppress(redis.RedisError), self.client() as client:
            found: Any = client.execute_command("ROLE")
            return bytes(found[0]).decode()
        return ""

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        return bool(self.role())


class Replicated:
    """A master, its replica, and three Sentinels that promote it when two of them miss the master."""

    def __init__(self, directory: Path) -> None:
        self.first = Server(directory, "first", _REDIS)
        follow = f"replicaof 127.0.0.1 {self.first.port}\n"
        self.second = Server(directory, "second", _REDIS + follow)
        watch = (
            f"requirepass {SENTINEL_PASSWORD}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {self.first.port} 2\n"
            f"sentinel auth-pass {MASTER} {PASSWORD}\n"
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}\n"
            f"sentinel down-after-milliseconds {MASTER} 500\n"
            f"sentinel failover-timeout {MASTER} 4000\n"
        )
        self.sentinels = [Server(directory, f"sentinel-{n}", watch, sentinel=True) for n in range(3)]

    def wait(self) -> None:
        """Until the Sentinels know each other and the replica."""
        eventually(self._is_watched, within=300, what="the Sentinels know each other and the replica")

    @property
    def url(self) -> str:
        """For BROKER_URL."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{USER}:p%40ss%2Fword@{hosts}/{MASTER}/0?sentinel_password={SENTINEL_PASSWORD}"

    def close(self) -> None:
        for one in (self.first, self.second, *self.sentinels):
            one.kill()

    def _is_watched(self) -> bool:
        for one in self.sentinels:
            with one.client() as client:
                found: Any = client.sentinel_master(MASTER)
                if (int(found["num-other-sentinels"]), int(found["num-slaves"])) != (2, 1):
                    return False
        return True


_REDIS = f"save ''\nmasterauth {PASSWORD}\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0\n{_ACCOUNT}"


@contextmanager
def replicated(directory: Path) -> Iterator[Replicated]:
    """They run until the block ends."""
    found = Replicated(directory)
    try:
        found.wait()
        yield found
    finally:
        found.close()


@contextmanager
def administered(directory: Path) -> Iterator[Server]:
    """A server with a password for its administrator."""
    server = Server(directory, "redis", _REDIS)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def behind_tls(directory: Path) -> Iterator[str]:
    """A server behind TLS; the URL of a user of its own, without an authority."""
    with administered(directory) as server, tls_before(directory, server) as port:
        yield f"rediss://{USER}:p%40ss%2Fword@127.0.0.1:{port}/0"


@contextmanager
def tls_before(directory: Path, server: Server) -> Iterator[int]:
    """The port at which a server is reached over TLS, since the embedded one speaks none; `ca.pem` is the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(directory))
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=[listener, context, server.port], daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=[client, context, port], daemon=True).start()


def _serve(client: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with (
        client,
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port)) as server,
        context.wrap_socket(client, server_side=True) as encrypted,
    ):
        back = threading.Thread(target=_copy, args=[server, encrypted], daemon=True)
        back.start()
        _copy(encrypted, server)
        server.shutdown(socket.SHUT_RDWR)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key; the first file is also the authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = directory / "ca.pem", directory / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return certificate, secret
