"""What a person typed wrongly: as the API says it in English; in German its sentence, with the label of the field."""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from worker.texts import Text, plainly, text
from worker.validation_words import MESSAGES, say_fault, say_faults
from worker.web.console.faults import LABELS, with_labels
from worker.web.console.languages import language
from worker.web.console.render import HERE
from worker.web.problems import join_faults, list_faults


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")
    note: str


def _refuse(given: str) -> str:
    raise ValueError(text("Choose the reason."))


KINDS: list[tuple[Any, object, str]] = [
    (Form, {}, "fehlt"),
    (Form, {"note": "", "more": 1}, "ist hier nicht erlaubt"),
    (str, 5, "muss ein Text sein"),
    (Annotated[str, Field(min_length=1)], "", "ist zu kurz; mindestens 1 Zeichen"),
    (Annotated[str, Field(min_length=2)], "x", "ist zu kurz; mindestens 2 Zeichen"),
    (Annotated[str, Field(max_length=1)], "xx", "ist zu lang; höchstens 1 Zeichen"),
    (Annotated[str, Field(max_length=1500)], "x" * 1501, "ist zu lang; höchstens 1.500 Zeichen"),
    (Annotated[list[int], Field(max_length=1)], [1, 2], "höchstens 1, nicht 2"),
    (Annotated[list[int], Field(max_length=2)], [1, 2, 3], "höchstens 2, nicht 3"),
    (int, None, "muss eine ganze Zahl sein"),
    (int, "x", "muss eine ganze Zahl sein"),
    (int, 1.5, "muss eine ganze Zahl sein"),
    (float, None, "muss eine Zahl sein"),
    (float, "x", "muss eine Zahl sein"),
    (bool, "x", "muss Ja oder Nein sein"),
    (Annotated[int, Field(gt=1)], 0, "muss größer als 1 sein"),
    (Annotated[int, Field(ge=1)], 0, "muss mindestens 1 sein"),
    (Annotated[int, Field(lt=1)], 1, "muss kleiner als 1 sein"),
    (Annotated[int, Field(le=9)], 10, "darf höchstens 9 sein"),
    (Literal["a"], "c", "möglich: 'a'"),
    (Literal["a", "b", "c"], "d", "möglich: 'a', 'b' oder 'c'"),
    (Colour, "c", "möglich: 'red' oder 'blue'"),
]


@pytest.mark.parametrize(("of", "given", "german"), KINDS)
def test_a_message_of_pydantic_stays_in_english_and_is_said_in_german(of: Any, given: object, german: str) -> None:
    fault = _wrong(of, given)
    said = say_fault("note", fault)
    assert with_labels(said, language("en")) == f"note: {fault['msg']}"
    assert with_labels(said, language("de")) == f"Notiz: {german}"


def test_every_template_is_one_that_pydantic_has() -> None:
    met = set()
    for of, given, _ in KINDS:
        made = say_fault("note", _wrong(of, given)).values["fault"]
        assert isinstance(made, Text)
        met.add(made.template)
    assert {template for templates in MESSAGES.values() for template in templates} == met


def test_what_is_not_in_the_catalogue_stays_and_a_sentence_of_ours_is_translated() -> None:
    german = language("de")
    rare = _wrong(bytes, 5)
    assert with_labels(say_fault("note", rare), german) == f"Notiz: {rare['msg']}"
    ours = say_fault("reason", _wrong(Annotated[str, AfterValidator(_refuse)], "x"))
    assert (ours, with_labels(ours, german)) == ("reason: Choose the reason.", "Grund: Wählen Sie den Grund.")
    bare = say_fault("note", {"type": "string_too_long", "msg": "String should have at most 5 characters"})
    assert bare == "note: String should have at most 5 characters", "without its values"
    for untouched in ("Job 3: it has ended", "letters: none", "5 characters: too few"):
        assert with_labels(untouched, german) == untouched


def test_several_faults_are_the_detail_of_the_api_in_english_and_each_has_its_label_in_german() -> None:
    class Two(BaseModel):
        note: Annotated[str, Field(max_length=2)]
        size: int

    with pytest.raises(ValidationError) as wrong:
        Two.model_validate({"note": "xxx", "size": "x"})
    found = wrong.value.errors(include_url=False)
    listed = list_faults(found)
    said = say_faults((one["field"] for one in listed), found)
    assert said == join_faults(listed)
    assert with_labels(said, language("de")) == (
        "Notiz: ist zu lang; höchstens 2 Zeichen; Lernende: muss eine ganze Zahl sein"
    )


def test_each_label_of_a_field_stands_on_a_page_and_is_german_there() -> None:
    shown = "\n".join(path.read_text() for path in (HERE / "templates").glob("*.html"))
    for name, label in LABELS.items():
        assert re.search(rf"[\"']{re.escape(label)}[\"']", shown), name
        assert language("de").say(plainly(label)) != label or label in ("Name",), name


def _wrong(of: Any, given: object) -> dict[str, Any]:
    with pytest.raises(ValidationError) as wrong:
        TypeAdapter(of).validate_python(given)
    return dict(wrong.value.errors(include_url=False)[0])
