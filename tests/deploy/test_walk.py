"""`make walk`: what operations must be able to do with nothing but the documentation, by a script."""

import json
from pathlib import Path

from ops.walk import record
from ops.walk.load import Load
from ops.walk.steps import PROMISES, STEPS

ROOT = Path(__file__).parents[2]


def test_every_promise_has_a_step_and_every_step_a_page_that_exists() -> None:
    assert {promise for step in STEPS for promise in step.keeps} == set(PROMISES)
    assert [step.page for step in STEPS if not (ROOT / step.page).is_file()] == []


def test_the_page_of_the_walk_shows_the_last_walk_over_the_steps_of_today() -> None:
    assert record.DOCUMENT.read_text(encoding="utf-8") == record.page(), "run `python -m ops.walk --page`"
    kept = json.loads(record.RECORD.read_text(encoding="utf-8"))["steps"]
    assert [step["does"] for step in kept] == [step.does for step in STEPS][: len(kept)], "run `make walk`"


def test_the_load_of_the_walk_counts_what_was_not_accepted_since_then() -> None:
    load = Load(learners=10)
    load.answers.update({"202": 3, "503": 1})
    before = load.answers.copy()
    load.answers.update({"202": 5, "200": 1, "401": 2, "none": 1})
    assert load.refused(before) == {"401": 2, "none": 1}
