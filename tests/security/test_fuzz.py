"""Every parser of foreign bytes gives a value or the error that it documents, whatever it is fed.

`corpus/<parser>/` keeps what was interesting, such as inputs that once failed. It is replayed, and varied by
hypothesis.
"""

import json
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from tests.security.parsers import PARSERS, Parser
from tests.support.load import FULL
from worker.config import settings

CORPUS = Path(__file__).parent / "corpus"
EXAMPLES = 3000 if FULL else 20
"""Inputs made for each parser."""
LONG = 100_000 if FULL else 20_000
"""Bytes to which an input is repeated when memory is measured."""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is needed here."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("WITHDRAWALS_SECRET_KEY", "a-key-of-the-tests-alone")
    monkeypatch.delenv("WITHDRAWALS_TEST_CHAOS", raising=False)  # no setting of the service
    settings.cache_clear()


@cache
def kept(name: str) -> tuple[bytes, ...]:
    """The corpus of a parser."""
    return tuple(path.read_bytes() for path in sorted((CORPUS / name).iterdir()))


def test_every_parser_has_a_corpus_and_every_corpus_a_parser() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(PARSERS)
    assert all(kept(name) for name in PARSERS)


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_takes_its_corpus_or_refuses_it_as_documented(name: str) -> None:
    accepted = [PARSERS[name].feed(data) for data in kept(name)]
    assert any(accepted) or name == "plan_hash", "nothing comes further than the first check"


@pytest.mark.part(2)
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_takes_any_bytes_or_refuses_them_as_documented(name: str) -> None:
    parser = PARSERS[name]

    @budget(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=_inputs(parser, kept(name)))
    def each(data: bytes) -> None:
        parser.feed(data)

    each()


@pytest.mark.part(3)
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_needs_memory_in_proportion_to_its_input(name: str) -> None:
    for data in kept(name):
        parser, long = PARSERS[name], data * (LONG // max(len(data), 1))
        parser.feed(data)  # whatever is loaded once
        tracemalloc.start()
        parser.feed(long)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 400 * len(long) + 2_000_000, f"{most:,} bytes for {len(long):,}"


def _inputs(parser: Parser, corpus: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Bytes of all kinds: any; the words of the language in any order; JSON of these words; the corpus, varied."""
    word = st.sampled_from(parser.words or ("a",))
    words = st.lists(word | st.text(max_size=3), max_size=12).map(
        lambda parts: "".join(parts).encode("utf-8", "replace")
    )
    spaced = st.lists(word, max_size=12).map(lambda parts: " ".join(parts).encode())
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | word | st.text(max_size=5)
    tree = st.recursive(leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(word, inner, max_size=5))
    return st.one_of(st.binary(max_size=200), words, spaced, tree.map(_dumped), _varied(corpus))


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


@st.composite
def _varied(draw: st.DrawFn, corpus: tuple[bytes, ...]) -> bytes:
    """A kept input with a piece cut out, repeated, or replaced by a piece of another."""
    data, other = draw(st.sampled_from(corpus)), draw(st.sampled_from(corpus))
    first, last = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
    piece = data[first:last]
    begin, end = sorted((draw(st.integers(0, len(other))), draw(st.integers(0, len(other)))))
    put = draw(st.sampled_from((b"", piece * 2, other[begin:end])) | st.binary(max_size=4))
    return data[:first] + put + data[last:]
