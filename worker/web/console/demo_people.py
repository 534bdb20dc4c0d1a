"""The people of `withdrawals up --demo`, whom its sign-in page offers by name (ops/decisions/0063)."""

import ipaddress

from fastapi import Request

from worker.access.sessions import MADE_BY_UP
from worker.ledger import tokens
from worker.ledger.tokens import Token
from worker.sign_on_settings import LOOPBACK
from worker.web.context import Services


def list_offered(services: Services, request: Request) -> list[Token]:
    """Who can be signed in as by name; nobody outside a demo, or from another machine."""
    settings = services.settings
    if not (settings.demo_token_ids and settings.console_tokens and settings.host in LOOPBACK):
        return []
    if not is_of_this_machine(request):
        return []
    with services.database.begin() as connection:
        found = [tokens.find_live(connection, token_id) for token_id in settings.demo_token_ids]
    return [token for token in found if token is not None and token.created_by == MADE_BY_UP]


def is_of_this_machine(request: Request) -> bool:
    """Whether browser and address are this machine's: a name that somebody lets point here is not."""
    try:
        near = ipaddress.ip_address(request.client.host if request.client else "").is_loopback
    except ValueError:
        near = False
    return near and request.url.hostname in LOOPBACK
