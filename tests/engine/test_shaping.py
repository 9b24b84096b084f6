"""Replies of random weights that fit a schema all the same: what they say is nothing, its form is everything."""

from __future__ import annotations

import json

import jsonschema
import pytest

from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.errors import InputError
from fieldwise.interfaces import Sampling, Shape, holds_shapes
from fieldwise.records import NOT_STATED, Message

ASKED = (Message(role="user", content="When is the deposit paid back?"),)
SCHEMA = {
    "type": "object",
    "properties": {
        "days": {"type": "integer", "minimum": 0, "maximum": 99},
        "kind": {"enum": ["lease", "loan"]},
        "is_open": {"type": "boolean"},
        "names": {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 2},
        "until": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/day"}]},
    },
    "required": ["days", "kind", "is_open", "names", "until"],
    "additionalProperties": False,
    "$defs": {"day": {"type": "string", "format": "date"}},
}
SHAPE = Shape(json.dumps(SCHEMA))


@pytest.mark.parametrize("seed", range(4))
def test_every_reply_fits_however_it_is_sampled(exact: LlamaCppEngine, seed: int) -> None:
    sampling = Sampling(max_tokens=200, temperature=1.5, seed=seed, shape=SHAPE)
    reply = exact.generate([exact.render(ASKED)], sampling)[0]
    jsonschema.validate(json.loads(reply.text), SCHEMA)
    assert reply.finish_reason == "stop"


def test_both_engines_write_the_same(exact: LlamaCppEngine, torch_engine: TransformersEngine) -> None:
    sampling = Sampling(max_tokens=200, shape=SHAPE)
    replies = [engine.generate([engine.render(ASKED)], sampling)[0] for engine in (exact, torch_engine)]
    assert replies[0].token_ids == replies[1].token_ids
    assert holds_shapes(exact) and holds_shapes(torch_engine)


def test_the_sentence_that_declines_is_the_only_other_reply(exact: LlamaCppEngine) -> None:
    prompt, seen = exact.render(ASKED), set()
    for seed in range(12):
        shape = Shape(json.dumps({"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]}), NOT_STATED)
        text = exact.generate([prompt], Sampling(max_tokens=60, temperature=3.0, seed=seed, shape=shape))[0].text
        seen.add(text.strip())
    assert seen <= {'{"a":1}', NOT_STATED} and len(seen) == 2


def test_a_reply_that_is_cut_off_says_so(exact: LlamaCppEngine) -> None:
    assert exact.generate([exact.render(ASKED)], Sampling(max_tokens=3, shape=SHAPE))[0].finish_reason == "length"


def test_shaped_and_plain_replies_run_together(exact: LlamaCppEngine) -> None:
    prompt = exact.render(ASKED)
    plain = Sampling(max_tokens=12)
    alone = exact.generate([prompt], plain)[0].token_ids
    pieces = exact.stream(prompt, Sampling(max_tokens=200, shape=SHAPE))
    first = next(pieces)
    assert exact.generate([prompt], plain)[0].token_ids == alone
    jsonschema.validate(json.loads(first.text + "".join(p.text for p in pieces)), SCHEMA)


def test_a_schema_that_cannot_be_followed_is_refused_and_the_engine_goes_on(exact: LlamaCppEngine) -> None:
    prompt = exact.render(ASKED)
    with pytest.raises(InputError, match="cannot be followed"):
        exact.generate([prompt], Sampling(shape=Shape(json.dumps({"type": "object", "not": {"type": "null"}}))))
    assert len(exact.generate([prompt], Sampling(max_tokens=2))[0].token_ids) == 2
