"""How long rows are kept, and what was let go of an organisation."""

from schemas.retention import Kept, Prune, Retention
from worker.config import Settings
from worker.database import Database
from worker.ledger import pruned
from worker.texts import text

MOST = 100
_KINDS = (
    ("jobs", "job_keep_days", text("Outcomes and details of jobs that have ended. The jobs and their counts stay.")),
    ("receipts", "receipt_keep_days", text("Receipts of HR events. What is known of each person stays.")),
    ("rosters", "receipt_keep_days", text("Lines of full rosters that were done. The rosters and their counts stay.")),
    ("audit", "audit_keep_days", text("The audit. A record of how many acts each day had stays.")),
    ("events", "event_keep_days", text("Events of the feed, which other systems read.")),
    ("deliveries", "webhook_keep_days", text("Webhook deliveries that arrived or failed.")),
    ("report_files", "report_keep_days", text("Files of scheduled reports.")),
    ("letters", "letter_keep_days", text("Evidence of closed letters. The letters stay.")),
)


def show(database: Database, settings: Settings, *, organisation_id: int) -> Retention:
    """What is kept for how long by the settings of the service, and the newest prunes of an organisation."""
    with database.begin() as connection:
        found = pruned.list_prunes(connection, organisation_id, limit=MOST)
    kept = [
        Kept(what=what, sentence=sentence, days=getattr(settings, name), setting=f"WITHDRAWALS_{name.upper()}")
        for what, name, sentence in _KINDS
    ]
    steps = [Prune.model_validate(one) for one in found]
    return Retention(kept=kept, daily=settings.prune_daily, pruned=steps)
