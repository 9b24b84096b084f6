"""Paragraphs and list items gathered from lines, for texts whose markup begins at the line."""

from __future__ import annotations

from abc import ABC, abstractmethod

from fieldwise.collect.builder import TextBuilder


class LineBlocks(ABC):
    """Walks the lines and hands blocks to the builder; a kind of markup says what a line and the signs within it mean."""

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._paragraph: list[str] = []
        self._item: list[str] = []
        self._mark, self._depth = "-", 0

    def add(self, lines: list[str]) -> None:
        """Write all blocks."""
        at = 0
        while at < len(lines):
            at = self._take(lines, at)
        self._flush()

    @abstractmethod
    def _take(self, lines: list[str], at: int) -> int:
        """Handle the block or line at `at`; return where to go on."""

    @abstractmethod
    def _plain(self, text: str) -> str:
        """The text as a reader sees it."""

    def _flush(self) -> None:
        if self._item:
            self._builder.item(self._plain(" ".join(self._item)), self._mark, self._depth)
        if self._paragraph:
            self._builder.paragraph(self._plain(" ".join(self._paragraph)))
        self._item, self._paragraph = [], []
