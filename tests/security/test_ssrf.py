"""Outgoing webhooks reach no private network, whatever the URL, the resolver and the receiver do (SSRF).

The resolver is a fake, the sockets are real: what is connected to is counted at the one place that connects.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpcore2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webhooks.conftest import Receiver, receiver  # noqa: F401 - a fixture
from worker import public_addresses
from worker.errors import InvalidInputError
from worker.webhooks import safe_post

PUBLIC = "93.184.216.34"
PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",  # the metadata of clouds
    "169.254.170.2",
    "100.100.100.200",
    "0.0.0.0",  # noqa: S104 - an address of this machine
    "100.64.0.1",
    "192.0.0.192",  # the metadata of another cloud
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:10.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:53aa:64c:0:7fff:80ff:fffe",
    "fe80::1",
    "fec0::1",
    "fd00:ec2::254",
    "fc00::1",
    "ff02::1",
    "100::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "4000::1",
]


class Resolver:
    """Answers one list of addresses after the other, the last one for ever, and keeps what was asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), list[str]()

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in found
        ]


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """Where a connection was asked for; none is made."""
    asked: list[tuple[str, int]] = []

    def connect(_: Any, host: str, port: int, *__: Any, **___: Any) -> Any:
        asked.append((host, port))
        raise httpcore2.ConnectError("nobody is there")

    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", connect)
    yield asked


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Resolver]:
    def install(*answers: list[str]) -> Resolver:
        made = Resolver(*answers)
        monkeypatch.setattr(socket, "getaddrinfo", made)
        return made

    return install


def send(url: str) -> safe_post.Answer:
    return safe_post.post(url, {}, b"{}", allow_private=False)


@pytest.mark.parametrize("address", PRIVATE)
def test_no_private_address_is_connected_to(
    connected: list[tuple[str, int]], resolves: Callable[..., Resolver], address: str
) -> None:
    for answer in (
        [address],
        [PUBLIC, address],
        [address, PUBLIC],
        [f"{address}%eth0"] if ":" in address else [address],
    ):
        resolves(answer)
        assert send("https://help.example/hooks").error == "private address", answer
    assert connected == []


@pytest.mark.parametrize("address", PRIVATE)
def test_a_url_with_a_private_address_is_refused_when_it_is_given(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidInputError, match="private"):
        safe_post.check_url(f"https://{host}/hooks", allow_private=False)


def test_the_connection_goes_to_the_address_that_was_checked(
    connected: list[tuple[str, int]], resolves: Callable[..., Resolver]
) -> None:
    """A name that answers with a private address the second time is not asked a second time."""
    resolver = resolves([PUBLIC], ["127.0.0.1"])
    assert send("https://rebinding.example:8443/hooks").error == "ConnectError"
    assert connected == [(PUBLIC, 8443)], "the address, not the name"
    assert resolver.asked == ["rebinding.example"]
    assert send("https://rebinding.example:8443/hooks").error == "private address"
    assert connected == [(PUBLIC, 8443)]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(receiver: Receiver, status: int) -> None:  # noqa: F811
    receiver.status = status
    receiver.headers = {"Location": receiver.url + "&again=1"}
    answer = safe_post.post(receiver.url, {}, b"{}", allow_private=True)
    assert (answer.status, answer.ok) == (status, False)
    assert len(receiver.got) == 1


def test_no_proxy_of_the_environment_is_used(
    connected: list[tuple[str, int]], resolves: Callable[..., Resolver], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:3128")
    resolves([PUBLIC])
    assert send("https://help.example/hooks").error == "ConnectError"
    assert connected == [(PUBLIC, 443)]


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "0x7f.1",
        "127.0.0.1.",
        "0",
        "localhost",
        "LOCALHOST.",
    ],
)
def test_a_number_or_a_name_for_this_machine_is_not_connected_to(connected: list[tuple[str, int]], host: str) -> None:
    """The system's own resolver reads what looks like a number; what it answers is what is checked."""
    answer = send(f"https://{host}/hooks")
    assert answer.error in ("private address", "ConnectError"), answer
    assert connected == []


@pytest.mark.parametrize(
    "url",
    [
        "https://user@help.example/",
        "https://user:password@help.example/",
        "https://@help.example/",
        "https://help.example@127.0.0.1/",
        "https://127.0.0.1\\@help.example/",
        "https://help.example\\@127.0.0.1/",
        "https://127。0。0。1/",
        "https://127．0．0．1/",  # noqa: RUF001 - full-width dots, which IDNA reads as dots
        "https://ⓛocalhost/",
        "https://help.example\t/",
        "https://help.example\r\nHost: localhost/",
        "https://help.example/\0",
        "https://help example/",
        "https://help.example:99999/",
        "https://help.example:abc/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://[::ffff:127.0.0.1]/",
        "https:///hooks",
        "https://",
        "http://help.example/",
        "ftp://help.example/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "//help.example/",
        "help.example",
        "",
    ],
)
def test_a_url_that_could_be_read_in_two_ways_is_refused_when_it_is_given(url: str) -> None:
    with pytest.raises(InvalidInputError, match="url: "):
        safe_post.check_url(url, allow_private=False)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_an_address_counts_as_public_only_where_the_registries_say_so(address: Any) -> None:
    """IPv6: what IANA gave out for the public internet is inside 2000::/3; everything else has another purpose."""
    if public_addresses.is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast
        assert address.version == 4 or address in ipaddress.ip_network("2000::/3") or address.ipv4_mapped is not None


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_as_private_as_the_inner_one(inner: ipaddress.IPv4Address) -> None:
    assert public_addresses.is_public(f"::ffff:{inner}") == public_addresses.is_public(str(inner))
    for outer in (f"64:ff9b::{inner}", f"::{inner}", f"::ffff:0:{inner}"):
        assert not public_addresses.is_public(outer), outer


@given(st.text() | st.from_regex(r"https?://[^/]{0,40}(/.*)?", fullmatch=True))
def test_any_text_as_a_url_is_taken_or_refused(url: str) -> None:
    """What is taken is sent without another error; the resolver is asked for nothing."""
    try:
        safe_post.check_url(url, allow_private=False)
    except InvalidInputError as refused:
        assert str(refused).startswith("url: ")
