"""What `withdrawals up` prints for a newcomer: commands to paste, and how to sign in to the console."""

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ops.local import python
from schemas.catalogue import Role
from worker.access import tokens
from worker.access.sessions import MADE_BY_UP
from worker.access.tokens import NewToken
from worker.database import Database
from worker.errors import ConflictError

TOKEN = "console"  # noqa: S105 - a name
"""The name of the token that `up` makes at each start, because a token can be shown only once."""

_SAMPLE = "ops/demo/data/sample.csv"
PREPARE: tuple[str, ...] = (
    (". .venv/bin/activate", f"withdrawals load {_SAMPLE} --organisation Acme")
    if (python.ROOT / "pyproject.toml").is_file()
    else (f"withdrawals load {shlex.quote(str(python.ROOT / _SAMPLE))} --organisation Acme",)
)
"""How to come to some data: in a checkout, or from an installed package."""
PRODUCERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "another service, over HTTP",
        (
            'TOKEN=$(withdrawals tokens create --name "trial-$(date +%s)" --role operator --organisation Acme)',
            'curl -sS {address}/v1/jobs -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: trial-$(date +%s)" '
            '-H \'Content-Type: application/json\' -d \'{{"reason": "not_required", "enrolment_ids": [4, 5]}}\'; echo',
            'curl -sS {address}/v1/jobs -H "Authorization: Bearer $TOKEN"; echo',
        ),
    ),
    (
        "an HR system, by a signed webhook (Standard Webhooks)",
        (
            'SOURCE="trial-$(date +%s)"; '
            'SECRET=$(withdrawals sources create --name "$SOURCE" --organisation Acme --json '
            "| python -c 'import json, sys; print(json.load(sys.stdin)[\"secret\"])')",
            'BODY=\'{{"type": "user.deactivated", "timestamp": "\'$(date -u +%Y-%m-%dT%H:%M:%SZ)\'", '
            '"data": {{"external_id": "cleo"}}}}\'; ID=msg_$(date +%s); AT=$(date +%s)',
            "SIGNED=$(python -c 'import base64, hashlib, hmac, sys; secret, text = sys.argv[1:]; "
            'print(base64.b64encode(hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), '
            'text.encode(), hashlib.sha256)).decode())\' "$SECRET" "$ID.$AT.$BODY")',
            'curl -sS "{address}/hooks/hr/$SOURCE" -H "webhook-id: $ID" -H "webhook-timestamp: $AT" '
            '-H "webhook-signature: v1,$SIGNED" -H \'Content-Type: application/json\' -d "$BODY"; echo',
        ),
    ),
    (
        "Okta, by an event hook",
        (
            'OKTA="okta-$(date +%s)"; KEY=$(withdrawals sources create --name "$OKTA" --kind okta --organisation Acme '
            "--json | python -c 'import json, sys; print(json.load(sys.stdin)[\"secret\"])')",
            'curl -sS "{address}/hooks/okta/$OKTA" -H "X-Okta-Verification-Challenge: trial"; echo',
            'curl -sS "{address}/hooks/okta/$OKTA" -H "Authorization: $KEY" -H \'Content-Type: application/json\' '
            '-w \'okta: %{{http_code}}\\n\' -d \'{{"data": {{"events": [{{"uuid": "\'$(date +%s)\'", '
            '"eventType": "user.lifecycle.deactivate", "published": "\'$(date -u +%Y-%m-%dT%H:%M:%SZ)\'", '
            '"target": [{{"type": "User", "id": "dan"}}]}}]}}}}\'',
        ),
    ),
    (
        "BambooHR, by its webhook",
        (
            'BAMBOO="bamboo-$(date +%s)"; KEY="a private key of BambooHR"; echo "$KEY" | withdrawals sources create '
            '--name "$BAMBOO" --kind bamboohr --secret-file - --organisation Acme >/dev/null',
            'BODY=\'{{"employees": [{{"id": "ben", "changedFields": ["status"], '
            '"fields": {{"status": "Inactive"}}}}]}}\'; AT=$(date +%s)',
            "SIGNED=$(python -c 'import hashlib, hmac, sys; key, text = sys.argv[1:]; "
            'print(hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest())\' "$KEY" "$BODY$AT")',
            'curl -sS "{address}/hooks/bamboohr/$BAMBOO" -H "X-BambooHR-Timestamp: $AT" -H "X-BambooHR-Signature: '
            "$SIGNED\" -H 'Content-Type: application/json' -w 'bamboohr: %{{http_code}}\\n' -d \"$BODY\"",
        ),
    ),
    (
        "a directory, over SCIM 2.0",
        (
            'SCIM=$(withdrawals tokens create --name "scim-$(date +%s)" --role scim --organisation Acme)',
            'curl -sS "{address}/scim/v2/Users?count=2" -H "Authorization: Bearer $SCIM"; echo',
        ),
    ),
)
"""Each producer with its commands; `{{` and `}}` stand for braces."""


def lines(address: str) -> list[str]:
    """The whole text, line by line. Lines that begin with `#` explain."""
    found = ["# In another terminal, in this directory:", *PREPARE]
    for who, commands in PRODUCERS:
        found += [f"# {who}:", *(command.format(address=address) for command in commands)]
    return found


@dataclass(frozen=True, slots=True)
class Invited:
    """Somebody who can sign in now."""

    made: NewToken
    code: str | None
    """Of a link that signs in once; None: the service does not listen on this machine alone."""


def invitation(address: str, organisations: Sequence[str], invited: Sequence[Invited] = ()) -> list[str]:
    """The console's address, a link for everybody invited, and the first one's token; else the command that makes one.

    The code stands behind a `#`: a browser keeps that to itself, so that no log has it.
    """
    found = [f"Console: {address}/console"]
    make = "withdrawals tokens create --name NAME --role owner"
    if invited:
        once = "Open this link to sign in, once and within 15 minutes"
        links = [
            f"{once}, as {one.made.token.name} ({one.made.token.role}): {address}/console/link#{one.code}"
            if len(invited) > 1
            else f"{once}: {address}/console/link#{one.code}"
            for one in invited
            if one.code
        ]
        first = invited[0].made
        again = f"(role {first.token.role}; shown only now. The next start makes a new one.)"
        return [*found, *links, f"Sign in with: {first.secret}", again]
    if not organisations:
        return [*found, f"# There is no organisation yet. Once there is one: {make}"]
    name = shlex.quote(organisations[0]) if len(organisations) == 1 else "NAME"
    return [*found, f"# To make a token: {make} --organisation {name}"]


def fresh_tokens(
    database: Database, organisation_id: int, people: Sequence[tuple[str, Role]] = ((TOKEN, Role.OWNER),)
) -> list[NewToken]:
    """New tokens by name and role; those of the last start are revoked. None where somebody else's has the name."""
    for token in tokens.list_tokens(database, organisation_id=organisation_id):
        if token.created_by == MADE_BY_UP and token.revoked_at is None:
            tokens.revoke(database, organisation_id=organisation_id, token_id=token.id, actor=MADE_BY_UP)
    made = []
    for name, role in people:
        with suppress(ConflictError, tokens.TokenWaitsError):
            made.append(
                tokens.create(database, organisation_id=organisation_id, name=name, role=role, actor=MADE_BY_UP)
            )
    return made
