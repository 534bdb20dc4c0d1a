"""Requests made to be expensive: each is refused with an error that is documented, before it costs much."""

import gzip
import io
import json
import tracemalloc
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.formparsers import MultiPartParser
from starlette.testclient import TestClient

from tests.security.estate import Estate, path_for
from worker.config import Settings
from worker.errors import InvalidInputError
from worker.jobs import csv_input
from worker.jobs.files.text import LONGEST_LINE

JSON = {"Content-Type": "application/json", "Idempotency-Key": "a-key"}
BODIES = {
    "nested lists": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "nested as far as the parser goes": b"[" * 900 + b"]" * 900,
    "nested and never closed": b"[" * 1_000_000,
    "a huge number": b"9" * 1_000_000,
    "a huge id": b'{"reason":"not_required","enrolment_ids":[' + b"9" * 5000 + b"]}",
    "a huge exponent": b'{"reason":"not_required","enrolment_ids":[1e999999]}',
    "not a number": b'{"reason":NaN,"note":Infinity}',
    "an id beyond bigint": b'{"reason":"not_required","enrolment_ids":[9223372036854775808]}',
    "the same name thousands of times": b"{" + b'"a":1,' * 10_000 + b'"a":1}',
    "thousands of names": json.dumps({f"n{n}": n for n in range(5_000)}).encode(),
    "ids that are objects": b'{"reason":"not_required","enrolment_ids":[' + b"{}," * 5_000 + b"{}]}",
    "ids that are text": b'{"reason":"not_required","enrolment_ids":[' + b'"x",' * 5_000 + b'"x"]}',
    "half a surrogate pair": b'{"reason":"not_required","note":"\\ud800","enrolment_ids":[1]}',
    "a NUL": b'{"reason":"not_required","note":"\\u0000","enrolment_ids":[1]}',
    "a byte order mark": b"\xef\xbb\xbf[]",
    "UTF-16": "[]".encode("utf-16"),
    "bytes that are not text": bytes(range(256)),
    "nothing": b"",
    "null": b"null",
}
REFUSED = {400, 409, 413, 415, 422}


def packed() -> dict[str, bytes]:
    """A body of a hundred megabytes that is short on the way."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ids.csv", b"0" * 10_000_000)
    return {"gzip": gzip.compress(b"[" * 10_000_000), "deflate": made.getvalue(), "br": b"\x00", "identity, gzip": b"x"}


@pytest.mark.parametrize("every", [4, pytest.param(1, id="all", marks=pytest.mark.long)])
def test_a_json_bomb_is_refused_by_every_call_that_takes_json(client: TestClient, estate: Estate, every: int) -> None:
    """In the suite each call gets every fourth bomb, and neighbours get different ones."""
    document, headers = client.get("/openapi.json").json(), {**JSON, **estate.bearer("owner")}
    for nth, (path, method, operation) in enumerate(_operations(document)):
        if "application/json" not in operation.get("requestBody", {}).get("content", {}):
            continue
        optional = not operation["requestBody"].get("required")
        for name, body in [*BODIES.items()][nth % every :: every]:
            answer = client.request(method, path_for(path, estate.own.ids), content=body, headers=headers)
            left_out = optional and name in ("nothing", "null")
            assert answer.status_code in REFUSED or left_out, (path, name, answer.status_code, answer.text[:200])
            assert len(answer.content) < 10_000, "the answer does not repeat the request"


def test_a_json_bomb_for_a_directory_is_refused(client: TestClient, estate: Estate) -> None:
    headers = {"Content-Type": "application/scim+json", **estate.bearer("scim")}
    user = f"/scim/v2/Users/{estate.own.ids['user_id']}"
    for name, body in BODIES.items():
        for method, path in (("POST", "/scim/v2/Users"), ("PUT", user), ("PATCH", user), ("POST", "/scim/v2/.search")):
            answer = client.request(method, path, content=body, headers=headers)
            ignored = answer.status_code == 200 and path.endswith(".search")  # names that a search does not know
            assert answer.status_code in REFUSED or ignored, (method, path, name, answer.status_code, answer.text[:200])


def test_a_compressed_body_is_refused_unread(client: TestClient, estate: Estate) -> None:
    headers, directory = estate.bearer("owner"), estate.bearer("scim")
    for coding, body in packed().items():
        for path in ("/v1/jobs", "/hooks/hr/x", "/hooks/okta/x", "/hooks/bamboohr/x", "/scim/v2/Users"):
            kind = "application/scim+json" if "scim" in path else "application/json"
            who = directory if "scim" in path else headers
            sent = {**who, "Content-Type": kind, "Content-Encoding": coding, "Idempotency-Key": "k"}
            answer = client.post(path, content=body, headers=sent)
            assert answer.status_code in (413, 415), (path, coding, answer.status_code, answer.text)


PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n'
FORMS = {
    "a hundred thousand parts": (PART + b"\r\n1\r\n") * 60_000,
    "a part without an end": PART + b"\r\n" + b"a" * 3_000_000,
    "a file without an end": PART.replace(b'"a"', b'"file"; filename="a"') + b"\r\n" + b"1\n" * 1_000_000,
    "a header without an end": PART + b"X: " + b"y" * 3_000_000,
    "a million headers": PART + b"X: y\r\n" * 500_000,
    "a name of a million quotes": PART[:-5] + b'\\"' * 1_000_000,
    "nothing but boundaries": b"--x\r\n" * 500_000,
    "almost boundaries": PART + b"\r\n" + b"\r\n--" * 700_000,
    "no boundary": b"a" * 100_000,
    "nothing": b"",
}


# The library leaves the file of a part without an end to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_multipart_bomb_is_refused(client: TestClient, estate: Estate) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=x", "Idempotency-Key": "k"}
    client.post("/console/sign-in", data={"token": estate.token("owner")})
    token = estate.bearer("owner")
    for name, body in FORMS.items():
        for path, who in (("/v1/jobs/file", token), ("/console/withdraw/file", {})):
            answer = client.post(path, content=body, headers={**kind, **who})
            assert answer.status_code in {*REFUSED, 403}, (path, name, answer.status_code, answer.text[:200])
    assert estate.world.one("SELECT count(*) FROM withdrawals.jobs") == 2, "none was made"


CHARSETS = ["punycode", "undefined", "idna", "unicode_escape", "utf-7", "utf-16", "é"]


def test_a_form_in_another_charset_is_refused_unread(client: TestClient, estate: Estate) -> None:
    """`punycode` would take minutes for a megabyte, in the thread that answers everybody."""
    body = PART + b"\r\nb-" + b"a" * 1_000_000 + b"\r\n--x--\r\n"
    token = estate.bearer("owner")
    for charset in CHARSETS:
        kind = f"multipart/form-data; boundary=x; charset={charset}".encode("latin-1")
        for path in ("/v1/jobs/file", "/console/sign-in"):
            sent = {"Content-Type": kind, "Idempotency-Key": b"k", **token}
            answer = client.post(path, content=body, headers=sent)  # type: ignore[arg-type]
            assert answer.status_code == 415, (path, answer.text[:200])
    same = {"Content-Type": "multipart/form-data; boundary=x; charset=UTF8"}
    assert client.post("/console/sign-in", content=PART + b"\r\n1\r\n--x--\r\n", headers=same).status_code == 401


def test_no_file_is_taken_from_somebody_who_is_not_signed_in(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MultiPartParser, "parse", lambda *_: 1 / 0)
    answer = client.post("/console/withdraw/file", files={"file": ("ids.csv", b"enrolment_id\n1\n")})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in")
    answer = client.post("/v1/jobs/file", files={"file": ("ids.csv", b"enrolment_id\n1\n")})
    assert answer.status_code == 401


FILES = {
    "a NUL": b"enrolment_id\n1\0\n",
    "a NUL in the header": b"enrol\0ment_id\n1\n",
    "a line of ten megabytes": b"enrolment_id\n" + b"1" * 10_000_000,
    "a header of ten megabytes": b"enrolment_id" + b",a" * 5_000_000,
    "a cell with an open quote": b'enrolment_id\n"' + b"1\n" * 500_000,
    "a million quotes": b"enrolment_id\n" + b'"' * 900_000,
    "many columns twice": b"enrolment_id," + b",".join(b"a%d" % (n % 1000) for n in range(20_000)) + b"\n",
    "a huge id": b"enrolment_id\n" + b"9" * 100_000 + b"\n",
    "an id beyond bigint": b"enrolment_id\n9223372036854775808\n",
    "digits of another script": "enrolment_id\n\u0661\n".encode(),
    "not UTF-8": b"enrolment_id\n\xff\n",
    "half of UTF-16": "enrolment_id\n1\n".encode("utf-16")[:-1],
    "a ZIP file": b"PK\x03\x04" + b"\0" * 1000,
    "carriage returns alone": b"enrolment_id\r1\r-1\r",
    "a formula": b"enrolment_id\n=1+1\n",
    "nothing": b"",
}


def test_a_csv_bomb_is_refused_with_its_line(client: TestClient, estate: Estate) -> None:
    headers = {**estate.bearer("producer"), "Idempotency-Key": "k"}
    for name, content in FILES.items():
        files = {"file": ("ids.csv", content)}
        answer = client.post("/v1/jobs/file", headers=headers, data={"reason": "not_required"}, files=files)
        assert answer.status_code == 422, (name, answer.text[:300])
        assert len(answer.content) < 1000, name
    assert estate.world.one("SELECT count(*) FROM withdrawals.jobs") == 2, "none was made"


def test_a_file_takes_no_more_memory_than_its_longest_line() -> None:
    """A million rows, or one line that never ends: it is read piece by piece."""

    class Endless(io.RawIOBase):
        sent = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            piece = b"enrolment_id\n" if not self.sent else b"1" * len(buffer)
            buffer[: len(piece)] = piece
            self.sent += len(piece)
            assert self.sent < 20 * LONGEST_LINE, "it should have stopped long ago"
            return len(piece)

    tracemalloc.start()
    with pytest.raises(InvalidInputError, match="longer than"):
        list(csv_input.read_rows(io.TextIOWrapper(io.BufferedReader(Endless())), ("enrolment_id",)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * LONGEST_LINE, f"{most:,} bytes"


LIES = [
    "%00",
    "%ED%A0%80",
    "0",
    "-1",
    "1-",
    "1-2-3",
    "1e5",
    "9" * 5000,
    "9223372036854775808",
    "\u0661",
    "'",
    "a" * 30_000,
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("every", [6, pytest.param(1, id="all", marks=pytest.mark.long)])
def test_a_parameter_that_lies_is_refused_or_finds_nothing(client: TestClient, estate: Estate, every: int) -> None:
    """Every parameter of every query and every id in a path, such as cursors and ids beyond bigint.

    In the suite each call gets every sixth lie, and neighbours get different ones.
    """
    document = client.get("/openapi.json").json()
    approver, scim = estate.bearer("owner"), estate.bearer("scim")
    for nth, (path, method, operation) in enumerate(_operations(document)):
        headers = {**(scim if path.startswith("/scim") else approver), "Last-Event-ID": "end", **JSON}
        body = b'{"note":"x","assignee":"x","remedy":"keep","reason":"not_required"}' if method != "get" else None
        for lie in LIES[nth % every :: every]:
            addresses = [
                f"{path_for(path, estate.own.ids)}?{parameter['name']}={lie}"
                for parameter in operation.get("parameters", [])
                if parameter["in"] == "query"
            ]
            if "_id}" in path:
                addresses.append(path_for(path, dict.fromkeys(estate.own.ids, lie)))
            for address in addresses:
                answer = client.request(method, address, headers=headers, content=body)
                assert answer.status_code < 500, (method, address[:200], answer.text)
                assert len(answer.content) < 200_000


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "security" in operation:
                yield path, method, operation


def test_a_formula_in_a_name_is_text_in_every_export(client: TestClient, estate: Estate, environment: Settings) -> None:
    """What a learner or an administrator of the platform may have written; ops/decisions/0013."""
    import openpyxl

    world, headers = estate.world, estate.bearer("viewer")
    for start in ("=", "+", "-", "@", "\t=", "\r=", "＝"):  # noqa: RUF001
        world.run(
            "UPDATE lms.learners SET external_id = :e WHERE id = :id", e=f"{start}1+1", id=estate.own.ids["user_id"]
        )
        world.run("UPDATE lms.series SET title = :t", t=f'{start}HYPERLINK("https://evil.example","x")')
        for report in ("enrolments", "outcomes"):
            text = client.get(f"/v1/reports/{report}.csv", headers=headers).content.decode()
            assert f"'{start}" in text
            assert f",{start}" not in text
            assert f'"{start}' not in text
            book = openpyxl.load_workbook(io.BytesIO(client.get(f"/v1/reports/{report}.xlsx", headers=headers).content))
            kinds = {cell.data_type for row in book.worksheets[0].iter_rows() for cell in row}
            assert "f" not in kinds
