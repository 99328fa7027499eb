"""A table as text: a title, the machine, rows in columns. The first column is left-aligned, numbers are right-aligned."""

from collections.abc import Sequence

from bench import machine

Row = Sequence[str]


def show(title: str, head: Row, rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Print it. An empty row is a line between sections."""
    widths = [max(len(row[n]) for row in [head, *rows] if len(row) > n) for n in range(len(head))]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    print(f"\n{title}\n{machine.describe()}\n{rule}\n{_line(head, widths)}\n{rule}")
    for row in rows:
        print(_line(row, widths) if row else rule)
    print(rule)
    for note in notes:
        print(note)
    print(flush=True)


def _line(row: Row, widths: Sequence[int]) -> str:
    first, *rest = row
    return "  ".join([first.ljust(widths[0]), *[text.rjust(width) for text, width in zip(rest, widths[1:], strict=False)]]).rstrip()
