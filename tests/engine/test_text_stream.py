from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldwise.engine.reply import Reply
from fieldwise.engine.text_stream import ByteCharacters, DecodedCharacters, StopStream
from fieldwise.interfaces import Sampling

TEXT = "a🙂é中\r\n—z"


def test_a_character_split_over_tokens_appears_when_it_is_whole() -> None:
    pieces = {n: bytes([byte]) for n, byte in enumerate(TEXT.encode())}
    stream = ByteCharacters(pieces.__getitem__)
    parts = [stream.feed(n) for n in pieces]
    assert "".join(parts) + stream.finish() == TEXT
    assert parts[:5] == ["a", "", "", "", "🙂"]


def test_bytes_that_never_become_a_character_are_replaced_at_the_end() -> None:
    stream = ByteCharacters(lambda _: "🙂".encode()[:2])
    assert stream.feed(0) == ""
    assert stream.finish() == "\ufffd"


def test_decoding_whole_lists_gives_the_same_characters() -> None:
    raw = TEXT.encode()
    stream = DecodedCharacters(lambda tokens: bytes(raw[n] for n in tokens).decode("utf-8", "replace"))
    parts = [stream.feed(n) for n in range(len(raw))]
    assert "".join(parts) + stream.finish() == TEXT
    assert parts[1:5] == ["", "", "", "🙂"]


def test_a_tokenizer_that_drops_the_leading_blank_keeps_the_inner_ones() -> None:
    words = [" one", " two", " three"]
    stream = DecodedCharacters(lambda tokens: "".join(words[n] for n in tokens).removeprefix(" "))
    assert "".join(stream.feed(n) for n in range(3)) == "one two three"


def test_a_stop_string_over_token_borders_is_found_and_dropped() -> None:
    stream = StopStream(["</end>"])
    assert [stream.feed(part) for part in ("yes <", "/e", "nd> no")] == ["yes ", "", ""]
    assert stream.has_stopped


def test_text_that_only_began_like_a_stop_string_is_given_back() -> None:
    stream = StopStream(["</end>"])
    assert stream.feed("a </e") == "a "
    assert stream.feed("x") == "</ex"
    assert stream.feed(" </") == " "
    assert stream.finish() == "</"


def test_the_earliest_of_several_stop_strings_counts() -> None:
    stream = StopStream(["STOP", "\n\n", ""])
    assert stream.feed("one\n\ntwo STOP") == "one"


@given(
    st.text(alphabet="ab<", max_size=30),
    st.lists(st.text(alphabet="ab<", min_size=1, max_size=4), max_size=3),
    st.integers(1, 5),
)
def test_streaming_shows_what_stands_before_the_first_stop_string(text: str, stops: list[str], size: int) -> None:
    stream = StopStream(stops)
    shown = "".join(stream.feed(text[n : n + size]) for n in range(0, len(text), size))
    shown += "" if stream.has_stopped else stream.finish()
    # with stops that overlap, which one ends first depends on the borders, but none is ever shown whole
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    if not any(stop in text for stop in stops):
        assert shown == text


def make_reply(*, max_tokens: int = 10, prompt: int = 3, context: int = 100, stop: tuple[str, ...] = ()) -> Reply:
    letters = ByteCharacters(lambda token: bytes([97 + token]))
    return Reply(
        [0] * prompt,
        Sampling(max_tokens=max_tokens, stop=stop),
        context_tokens=context,
        is_end=lambda token: token == 9,
        characters=letters,
    )


def one_hot(token: int) -> np.ndarray:
    return np.eye(10, dtype=np.float32)[token]


def test_the_end_token_ends_a_reply_and_is_not_part_of_it() -> None:
    reply = make_reply()
    assert reply.take(one_hot(1)).text == "b"
    assert reply.take(one_hot(9)).finish_reason == "stop"
    assert reply.generation().token_ids == (1,)
    assert reply.generation().text == "b"


@pytest.mark.parametrize(
    ("max_tokens", "prompt", "context", "length"), [(2, 3, 100, 2), (50, 97, 100, 4), (50, 100, 100, 1)]
)
def test_a_reply_ends_at_its_limit_or_where_the_context_ends(
    max_tokens: int, prompt: int, context: int, length: int
) -> None:
    reply = make_reply(max_tokens=max_tokens, prompt=prompt, context=context)
    while reply.finish_reason is None:
        reply.take(one_hot(1))
    assert (len(reply.tokens), reply.finish_reason) == (length, "length")


def test_no_token_is_made_when_none_is_asked_for() -> None:
    piece = make_reply(max_tokens=0).take(one_hot(1))
    assert (piece.tokens, piece.finish_reason) == (0, "length")


def test_text_held_back_for_a_stop_string_comes_with_the_end() -> None:
    reply = make_reply(max_tokens=2, stop=("bcd",))
    assert reply.take(one_hot(1)).text == ""
    assert reply.take(one_hot(2)).text == "bc"
