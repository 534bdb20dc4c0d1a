"""All text of the console is in one catalogue, and each language says all of it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import worker
from ops import texts
from schemas.approvals import Approval
from schemas.brake import LimitProposal
from schemas.runs import Run
from tests.support.unmarked import find_unmarked
from worker.texts import joined, text
from worker.web.console import stored as stored_sentences
from worker.web.console.languages import ENGLISH, codes, language
from worker.web.console.render import HERE, environment
from worker.web.console.words import plain, word

TEMPLATES = sorted((HERE / "templates").glob("*.html"))
ALLOWED = {
    "Withdrawals", "… Withdrawals", "Redis", "'Parquet'", 'placeholder="wdt_…"',  # names
    "o'bri mar", "muller", "job 23",  # examples of what to type, between words that are marked
    "'light dark'", "'notice warn'", 'aria-invalid="true" aria-describedby="wrong-…"',  # for browsers
}  # fmt: skip
"""What needs no translation."""
_SAID = {"error", "said"}
"""Arguments that pages show."""
GERMAN = {"auslassen": r"\bweg(zu|ge)?lass", "korrigieren": "berichtig"}
"""Words of the German catalogue for acts of the console, with those that it does not use for the same."""
_collect = cache(texts.collect)


def test_every_language_says_all_that_the_pages_say_and_nothing_else() -> None:
    assert codes() == (ENGLISH, "de")
    found = _collect()
    for code in set(codes()) - {ENGLISH}:
        kept = texts.read(texts.path_of(code), code)
        assert {(one.context, one.id) for one in kept if one.id} == {one.key for one in found}, "python -m ops.texts"
        faults = [f"{one.id!r} {fault}" for one in kept if one.id for fault in texts.faults_of(one)]
        assert not faults, "\n".join(faults)
        before = texts.path_of(code).read_bytes()
        assert texts.as_file(code, texts.update(code, kept, found)) == before, "python -m ops.texts"


def test_german_has_one_word_for_one_thing() -> None:
    kept = texts.read(texts.path_of("de"), "de")
    said = [form for one in kept for form in ([one.string] if isinstance(one.string, str) else one.string or ())]
    for word_of_it, others in GERMAN.items():
        assert [form for form in said if word_of_it in form.lower()]
        assert not [form for form in said if re.search(others, form, re.IGNORECASE)], word_of_it


def test_a_template_has_no_text_that_is_not_marked_for_translation() -> None:
    found = {path.name: find_unmarked(environment(), path.read_text()) for path in TEMPLATES}
    assert not [f"{name}: {one}" for name, unmarked in found.items() for one in unmarked if one not in ALLOWED]


def test_unmarked_text_is_found_in_html_in_attributes_and_in_expressions() -> None:
    source = """{% import "parts.html" as parts %}<p title="A hint">Some text {{ n }}</p><code>data</code>
    {{ "job" if n == "other words" else "No job" }} {{ parts.field("name", "Your name") }} {{ _("Marked") }}
    {% trans %}Marked as well{% endtrans %}"""
    assert find_unmarked(environment(), source) == ['title="A hint"', "Some text …", "'No job'", "'Your name'"]


def test_what_the_console_says_in_python_can_be_translated() -> None:
    for path in sorted(HERE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        assert not [f"{path.name}:{node.lineno}" for node in _said_in(tree) if not _is_sentence(node)]


def _said_in(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield from node.exc.args
        elif isinstance(node, ast.Call):
            yield from (given.value for given in node.keywords if given.arg in _SAID)
            if ast.unparse(node.func) == "view.go":
                yield from node.args[1:2]


def _is_sentence(node: ast.expr) -> bool:
    """Whether a value is no string of this place, or one word, such as the type of a problem."""
    if isinstance(node, ast.IfExp):
        return _is_sentence(node.body) and _is_sentence(node.orelse)
    if isinstance(node, ast.Constant):
        return not (isinstance(node.value, str) and " " in node.value)
    return not isinstance(node, ast.JoinedStr | ast.BinOp)


def test_a_sentence_is_english_everywhere_and_of_the_language_on_a_page() -> None:
    label = text("Withdrawn")
    said = joined([text("Released: {jobs}.", jobs=text("{count:,} jobs", count=1234)), text("{label}.", label=label)])
    assert said == "Released: 1,234 jobs. Withdrawn."
    assert str(ValueError(said)) == said
    assert language("de").say(str(ValueError(said))) == "Freigegeben: 1.234 Aufträge. Abgemeldet."
    counted = text("{count:,} {outcome:lower}", count=2, outcome=label)
    assert (str(counted), language("de").say(counted)) == ("2 withdrawn", "2 Abgemeldet")
    assert language("de").say(text("{share:.1f} {unknown}", share=1.5, unknown="<b>")) == "1,5 <b>"


def test_a_state_that_only_a_page_names_has_a_label_in_every_language() -> None:
    states = {state for of in (Approval, LimitProposal, Run) for state in get_args(of.model_fields["state"].annotation)}
    assert {"halted", "expired"} < states
    known = {one.english for one in _collect()}
    assert not [state for state in states if word(state) not in known]


def test_a_stored_sentence_is_said_in_the_language_of_a_page() -> None:
    stored = {
        "by cli:ada {x} 5 %": "durch cli:ada {x} 5 %",
        "it has failed for 3 days, last with HTTP 500": "seit 3 Tagen ohne Erfolg, zuletzt mit HTTP 500",
        "the member has no e-mail address": "das Mitglied hat keine E-Mail-Adresse",
        "2 letters (5, 6)": "2 Fälle (5, 6)",
        "letter from home": "letter from home",
    }
    assert {english: plain(english, language("de")) for english in stored} == stored
    assert [plain(english, language("en")) for english in stored] == list(stored)


def test_a_stored_sentence_says_its_parts_and_its_numbers_in_the_language_of_a_page() -> None:
    stored = {
        "Releases 1 held job, which would withdraw up to 1,234 learners.": (
            "Gibt frei: 1 angehaltener Auftrag. Abgemeldet würden bis zu 1.234 Lernende."
        ),
        "Begins a run over 1,500 letters, each about one learner at the most: try again.": (
            "Beginnt einen Lauf über 1.500 Fälle, in jedem geht es um höchstens eine lernende Person: erneut versuchen."
        ),
        "From then on: override from hr: one person alone up to 1,000 learners; token: always needs a second person. "
        "Any other act follows the default.": (
            "Von da an: trotzdem abmelden aus hr: eine Person allein bis zu 1.000 Lernende; token: immer ist eine "
            "zweite Person nötig. Für alles andere gilt die Vorgabe."
        ),
        "From then on: Override from HR system: always needs a second person; Withdraw from a Series: held past 5 "
        "learners in the brake's window. Any other act follows the default.": (
            "Von da an: Trotzdem abmelden aus HR-System: immer ist eine zweite Person nötig; Von einer Series "
            "abmelden: angehalten ab mehr als 5 Lernenden im Fenster der Bremse. Für alles andere gilt die Vorgabe."
        ),
        "the brake is on: its learners (8) and those of the last 24 hours (1,500) are more than 1,502, the larger of "
        "25 and 0.05 of 30,040 learners. Go on later or with fewer, or let an owner propose other limits.": (
            "die Bremse greift: die Lernenden des Auftrags (8) und die der letzten 24 Stunden (1.500) sind mehr als "
            "1.502, das Größere von 25 und 0,05 von 30.040 Lernenden. Später oder mit weniger weitermachen, oder "
            "jemand mit der Rolle owner schlägt andere Grenzen vor."
        ),
    }
    assert {english: plain(english, language("de")) for english in stored} == stored
    assert [plain(english, language("en")) for english in stored] == list(stored)


def test_each_stored_sentence_that_pages_look_for_is_written_somewhere() -> None:
    """Whoever changes the sentence where it is written changes its template for the pages with it."""
    written = set[str]()
    for path in Path(worker.__file__).parent.rglob("*.py"):
        if path.name != "stored.py":
            written |= {_skeleton(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))}
    templates = (*stored_sentences.TEMPLATES, *stored_sentences.PARTS)
    wanted = {_without_values(template) for template in templates}
    assert wanted - written == {"not sent ({})"}, "its first words are a constant, NOT_SENT"


def _without_values(template: str) -> str:
    return re.sub(r"\{\w+(:[^}]*)?\}", "{}", template)


def _skeleton(node: ast.AST) -> str:
    """A literal, or an f-string with its values left out."""
    match node:
        case ast.Constant(value=str(literal)):
            return _without_values(literal)
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
    return ""
