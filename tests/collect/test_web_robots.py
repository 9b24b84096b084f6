"""robots.txt, as RFC 9309 and its examples say."""

from __future__ import annotations

import pytest

from fieldwise.collect.robots import parse


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        ("Disallow: /", "/a", False),
        ("Disallow:", "/a", True),
        ("Disallow: /a", "/b", True),
        ("Disallow: /a\nAllow: /a/b", "/a/b/c", True),
        ("Allow: /a/b\nDisallow: /a", "/a/c", False),
        ("Allow: /p\nDisallow: /", "/page", True),
        ("Allow: /a\nDisallow: /a", "/a", True),
        ("Disallow: /*.pdf$", "/x/y.pdf", False),
        ("Disallow: /*.pdf$", "/x/y.pdf?x=1", True),
        ("Disallow: /*/private/", "/x/private/y", False),
        ("Disallow: /a*b*c", "/a1b2d", True),
        ("Disallow: *", "/a", False),
        ("Disallow: /a$", "/a", False),
        ("Disallow: /a$", "/ab", True),
        ("Disallow: /*aa$", "/a", True),
        ("Disallow: /gr%C3%B6%C3%9Fe", "/größe", False),
        ("Disallow: /a?x=", "/a?x=1", False),
        ("Disallow: /", "/robots.txt", True),
        ("disallow : /A  # a remark", "/A", False),
        ("Disallow: /A", "/a", True),
    ],
)
def test_the_longest_rule_decides(rules: str, path: str, allowed: bool) -> None:
    assert parse(f"User-agent: *\n{rules}\n").allows(path) is allowed


def test_a_group_that_names_us_is_taken_in_place_of_the_one_for_all() -> None:
    robots = parse("User-agent: *\nDisallow: /\n\nUser-agent: other\nUser-agent: Fieldwise/1.0\nDisallow: /x\n")
    assert robots.allows("/y") and not robots.allows("/x")


def test_groups_of_one_agent_are_joined_and_those_of_others_passed_over() -> None:
    robots = parse("User-agent: *\nDisallow: /a\n\nUser-agent: bot\nDisallow: /\n\nUser-agent: *\nDisallow: /b\n")
    assert [robots.allows(p) for p in ("/a", "/b", "/c")] == [False, False, True]


def test_the_pause_a_host_asks_for_is_read_and_nonsense_is_passed_over() -> None:
    assert parse("User-agent: *\nCrawl-delay: 2.5\n").crawl_delay == 2.5
    assert parse("User-agent: *\nCrawl-delay: soon\nCrawl-delay: -1\nCrawl-delay: nan\n").crawl_delay is None


def test_no_pattern_takes_long() -> None:
    assert parse("User-agent: *\nDisallow: /" + "*a" * 2000 + "$\n").allows("/" + "a" * 1999 + "b")


def test_rules_before_any_agent_and_pages_of_html_mean_nothing() -> None:
    assert parse("Disallow: /\n<html>: x\n").allows("/a")
