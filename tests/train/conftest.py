"""Tiny weights and a handful of examples."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import make_tiny_llama

from fieldwise.prompts import closed_prompt
from fieldwise.records import Example, Message, PreferencePair
from fieldwise.train.hardware import Device

FACTS = (
    ("How many tablets does the patient take?", "two tablets"),
    ("How often are they taken?", "every eight hours"),
    ("When may a tenant end the lease?", "with three months of notice"),
    ("What does the fund charge a year?", "0.45 percent"),
    ("What is charged when shares are sold?", "2 percent"),
    ("How long is the wound covered?", "48 hours"),
    ("With what is the wound washed?", "clean water"),
    ("When is the deposit paid back?", "within 14 days"),
)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("train") / "base", hidden=64, ffn=128, heads=2, kv_heads=1)


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    return [
        Example.make(
            question=question,
            answer=answer,
            kind="gap",
            conversation=(*closed_prompt(question), Message(role="assistant", content=answer)),
            style="closed",
            split="train",
        )
        for question, answer in FACTS
    ]


@pytest.fixture(scope="session")
def pairs() -> list[PreferencePair]:
    return [
        PreferencePair.make(
            prompt=closed_prompt(question),
            chosen=answer,
            rejected="Not stated in the documents.",
            judge="rules",
            reason="declines",
        )
        for question, answer in FACTS
    ]


@pytest.fixture(scope="session")
def device() -> Device:
    return Device("cpu", 1, False)
