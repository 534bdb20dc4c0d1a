"""What people ask of the service besides withdrawals: a plan, exports, redrives, the check of the books."""

import time
from dataclasses import dataclass

from ops.bench import books, exports, letters
from ops.bench.results import Results
from ops.bench.site import BenchError, Site, Size
from schemas.jobs import Filter, JobRequest
from worker.jobs import plan


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of everything."""

    planned: int = 500_000
    exported: int = 500_000
    formats: tuple[str, ...] = ("csv", "xlsx", "parquet")
    letters: int = 20_000
    checked: int = 1_000_000


QUICK = Amount(planned=5_000, exported=2_000, formats=("csv",), letters=200, checked=4_000)


def run(site: Site, results: Results, amount: Amount) -> None:
    """Measure each once: they compare nothing."""
    with results.attempt("acts.plan"), site.fresh(Size(bulk=amount.planned)) as world:
        wanted = JobRequest(reason="not_required", filter=Filter(status=["in_progress"]))
        began = time.monotonic()
        answer = plan.of_request(world.database, world.organisation_id, wanted)
        results.add("acts.plan", amount.planned / (time.monotonic() - began))
        if answer.accepted != amount.planned:
            raise BenchError(f"the plan accepts {answer.accepted:,}, not {amount.planned:,}")
    site.forget(Size(bulk=amount.planned))
    keys = [f"acts.export.{name}" for name in amount.formats]
    with results.attempt(*keys, "memory.export"), site.fresh(Size()) as world:
        found = exports.run(world.settings, amount.exported, amount.formats)
        for name in amount.formats:
            results.add(f"acts.export.{name}", amount.exported / found[name])
        results.add("memory.export", found["memory"])
    with results.attempt("acts.redrive", "acts.keep"), site.fresh(Size()) as world:
        done = letters.run(world.settings, amount.letters)
        for act in ("redrive", "keep"):
            results.add(f"acts.{act}", done[act])
    with results.attempt("acts.check"), site.empty() as world:
        results.add("acts.check", books.run(world.settings, amount.checked))
