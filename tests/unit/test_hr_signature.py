"""Signatures of Standard Webhooks: our check says what the library of the standard's authors says."""

import base64
import hmac
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from worker.web.hooks.hr import TOLERANCE, is_genuine

SECRET, OTHER = ("whsec_" + base64.b64encode(name * 4).decode() for name in (b"ours-key", b"their-key"))
NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")


def sign(secret: str, key: str, body: str, at: int) -> str:
    """The library takes a time without a zone, and reads it as UTC."""
    return Webhook(secret).sign(key, datetime.fromtimestamp(at, UTC).replace(tzinfo=None), body)


def library_accepts(secret: str, headers: dict[str, str], body: str) -> bool:
    try:
        Webhook(secret).verify(body, headers, json_parse=False)
    except WebhookVerificationError:
        return False
    return True


@given(
    key=st.text(st.characters(codec="latin-1"), min_size=1, max_size=40),
    body=st.text(max_size=200),
    age=st.sampled_from([0, 1, -1, TOLERANCE - 30, 30 - TOLERANCE, TOLERANCE + 30, -TOLERANCE - 30]),
    signers=st.lists(st.sampled_from([SECRET, OTHER]), max_size=3),
    changed=st.sampled_from(["", "body", "key", "time", "version"]),
)
def test_it_says_what_the_library_says(key: str, body: str, age: int, signers: list[str], changed: str) -> None:
    at = int(time.time()) - age
    signatures = [sign(secret, key, body, at) for secret in signers]
    if changed == "version":
        signatures = [one.replace("v1,", "v2,") for one in signatures]
    sent = dict(zip(NAMES, (key, str(at), " ".join(signatures)), strict=True))
    match changed:
        case "body":
            body += "x"
        case "key":
            sent["webhook-id"] += "x"
        case "time":
            sent["webhook-timestamp"] = str(at + 1)
    assert is_genuine(SECRET, sent, body.encode()) is library_accepts(SECRET, sent, body)


def test_a_genuine_request_is_found_by_either_of_two_signatures() -> None:
    at = int(time.time())
    mine, theirs = (sign(secret, "msg_1", "{}", at) for secret in (SECRET, OTHER))
    for given_ in (mine, f"{theirs} {mine}", f"v1,x {mine}", f"v1a,{mine} {mine}"):
        assert is_genuine(SECRET, dict(zip(NAMES, ("msg_1", str(at), given_), strict=True)), b"{}")
    assert not is_genuine(SECRET, dict(zip(NAMES, ("msg_1", str(at), theirs), strict=True)), b"{}")


def test_a_body_that_is_not_text_can_be_signed() -> None:
    """The library takes text alone."""
    at, body = int(time.time()), b"\xff\x00"
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, f"msg_1.{at}.".encode() + body, "sha256")).decode()
    assert is_genuine(SECRET, dict(zip(NAMES, ("msg_1", str(at), f"v1,{signature}"), strict=True)), body)


@pytest.mark.parametrize("sent", ["", "1e9", "-5", "nan", "inf", " 1", "1.5", "\N{FULLWIDTH DIGIT NINE}", "1" * 400])
def test_a_time_that_is_not_whole_seconds_is_refused(sent: str) -> None:
    headers = dict(zip(NAMES, ("msg_1", sent, sign(SECRET, "msg_1", "{}", 1)), strict=True))
    assert not is_genuine(SECRET, headers, b"{}")
