"""Sentences of answers, which pages show in another language."""

from typing import Annotated, Any

from pydantic import ValidatorFunctionWrapHandler, WrapValidator


def _keep(given: Any, check: ValidatorFunctionWrapHandler) -> Any:
    checked = check(given)
    return given if isinstance(given, str) else checked  # checked, a sentence would be a plain `str`


Sentence = Annotated[str, WrapValidator(_keep)]
"""A string that stays what it was given as: a sentence that remembers its template stays one."""
