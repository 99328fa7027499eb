"""How the operator's commands print: aligned tables and check marks, in plain text that also survives a pipe."""

import sys
from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], widest: int = 60) -> str:
    """Columns as wide as what is in them, at most `widest` characters each."""
    cells = [[_cut(str(cell), widest) for cell in row] for row in [headings, *rows]]
    widths = [max(len(row[n]) for row in cells) for n in range(len(headings))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def verdict(is_good: bool | None, subject: str, words: str) -> str:
    """One line of a check: good, bad, or (None) worth knowing."""
    mark, colour = {True: ("ok  ", "32"), False: ("FAIL", "31"), None: ("note", "33")}[is_good]
    return f"{paint(mark, colour)}  {subject.ljust(12)}  {words}"


def paint(text: str, colour: str) -> str:
    """Colour for a terminal, nothing for a pipe."""
    return f"\033[{colour}m{text}\033[0m" if sys.stdout.isatty() else text


def _cut(text: str, widest: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= widest else text[: widest - 1] + "…"
