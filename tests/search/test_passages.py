"""Passages cover a text, in order, without overlap, and fit."""

from __future__ import annotations

import time
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tectum.search.passages import count_tokens, passages

texts = st.text(alphabet=st.sampled_from(list("ab .!?\n\t é日。1\"'")), max_size=400) | st.text(max_size=200)


@settings(max_examples=300, deadline=None)
@given(text=texts, tokens=st.integers(1, 30))
def test_passages_are_slices_in_order_that_lose_nothing_but_space(text: str, tokens: int) -> None:
    found = passages(text, tokens, limit=10**6)
    assert all(text[passage.start : passage.end] == passage.text and passage.text for passage in found)
    assert all(a.end <= b.start for a, b in pairwise(found))
    covered = "".join(passage.text for passage in found)
    assert "".join(covered.split()) == "".join(text.split())
    assert all(count_tokens(passage.text) <= tokens for passage in found)


def test_paragraphs_stay_whole_where_they_fit() -> None:
    text = "One two three.\n\nFour five six.\n\nSeven eight nine ten eleven twelve."
    assert [passage.text for passage in passages(text, 8)] == [
        "One two three.\n\nFour five six.",
        "Seven eight nine ten eleven twelve.",
    ]


def test_a_long_text_gives_256_passages_from_its_whole_length() -> None:
    text = "\n\n".join(f"Paragraph number {i} says nothing new." for i in range(5000))
    found = passages(text, 16)
    assert len(found) == 256 and found[0].start == 0 and found[-1].end == len(text)


def test_time_grows_with_length_only() -> None:
    for text in ("a\n" * 200_000, " " * 400_000 + "x", "a" + " " * 400_000 + "b", '."' * 200_000, "x" * 400_000):
        started = time.process_time()
        passages(text, 64)
        assert time.process_time() - started < 5
