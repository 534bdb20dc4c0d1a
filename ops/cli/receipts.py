"""Receipts of events: `withdrawals receipts show`."""

from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import AsJson, Organisation
from schemas.answers import ShownReceipt
from worker.people import inbox

group = typer.Typer(no_args_is_help=True, help="Receipts of events about persons: what became of an event.")
ReceiptId = Annotated[int, typer.Argument(help="The receipt's id.", callback=common.refuse_large_id("receipt"))]


@group.command("show")
def show(receipt_id: ReceiptId, organisation: Organisation = None, json: AsJson = False) -> None:
    """Show what became of an event: whether it still waits, what the order of events made of it, and its job."""
    with common.database() as db:
        found = inbox.show(db, organisation_id=common.organisation_id(db, organisation), receipt_id=receipt_id)
    document = ShownReceipt.model_validate(found).model_dump(mode="json")
    if json:
        common.print_json(document)
        return
    rows = [(name.replace("_", " "), value) for name, value in document.items() if value is not None]
    common.out.print(common.table("", "", rows=rows))
