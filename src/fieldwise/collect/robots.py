"""robots.txt as RFC 9309 says: longest match wins, `*` and `$` in paths, and the pause a host asks for.

The parser of Python 3.11 takes the first match and knows no wildcards, so it allows what hosts forbid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

AGENT = "fieldwise"
MAX_BYTES = 512_000
_KEPT = "/?&=*$;:@!'()+,~-._"  # characters that stand for themselves in paths and patterns


class Rule(NamedTuple):
    """A line of a group: what it is about, and whether it allows."""

    pattern: str
    allows: bool


@dataclass(frozen=True)
class Robots:
    """What a host says to us."""

    rules: tuple[Rule, ...] = ()
    crawl_delay: float | None = None

    def allows(self, path: str) -> bool:
        r"""Return whether a path with its query may be fetched.

        >>> parse("User-agent: *\nDisallow: /a\nAllow: /a/b").allows("/a/b/c")
        True
        """
        if path == "/robots.txt":
            return True
        plain = _normal(path)
        found = [rule for rule in self.rules if _matches(rule.pattern, plain)]
        return max(found, key=lambda rule: (len(rule.pattern), rule.allows)).allows if found else True


ALLOW_ALL = Robots()


def parse(text: str) -> Robots:
    """Return what a robots.txt says to us: the groups that name us, else those for everybody."""
    ours, everybody = _Group(), _Group()
    current: list[_Group] = []
    is_heading = False
    for line in text.lstrip("\ufeff").splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            current = current if is_heading else []
            is_heading = True
            if (agent := value.lower()) == "*":
                current.append(everybody)
            elif agent.partition("/")[0].strip() == AGENT:
                current.append(ours)
                ours.is_named = True
        elif key in ("allow", "disallow", "crawl-delay"):
            is_heading = False
            for group in current:
                group.add(key, value)
    chosen = ours if ours.is_named else everybody
    return Robots(tuple(chosen.rules), chosen.crawl_delay)


class _Group:
    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.crawl_delay: float | None = None
        self.is_named = False

    def add(self, key: str, value: str) -> None:
        if key == "crawl-delay":
            try:
                seconds = float(value)
            except ValueError:
                return
            if 0 <= seconds < 1e9:
                self.crawl_delay = seconds
        elif value:  # "Disallow:" without a path forbids nothing
            self.rules.append(Rule(_normal(value), key == "allow"))


def _normal(path: str) -> str:
    """One spelling for a path, whichever of its characters are written as %XX."""
    return quote(unquote_to_bytes(path), safe=_KEPT)


def _matches(pattern: str, path: str) -> bool:
    """Match with `*` and a final `$`; part after part, so that no pattern takes long."""
    is_whole = pattern.endswith("$")
    first, *rest = (pattern[:-1] if is_whole else pattern).split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    if not rest:
        return not is_whole or at == len(path)
    *middle, last = rest
    for part in middle:
        found = path.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    if is_whole:
        return len(path) - len(last) >= at and path.endswith(last)
    return path.find(last, at) >= 0
