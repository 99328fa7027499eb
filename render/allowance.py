"""The allowance: how much text and how many steps one template part may make before it is stopped.

Jinja2's sandbox guards attributes, not memory or time: a template of thirty characters can ask for gigabytes. Everything in a
template that makes text or repeats itself draws on this allowance first. It counts; it knows nothing about templates.
It belongs to one thread, like the environment that holds it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

MAX_OUTPUT_CHARS = 2 * 1024 * 1024  # of one part: twenty times what Gmail shows before it clips (102 KB)
MAX_TEXT_CHARS = 1024 * 1024  # of one value made inside a template
MAX_WORK_CHARS = 16 * 1024 * 1024  # of all values made by one part, also those that are thrown away
MAX_STEPS = 200_000  # iterations and calls of one part
_CONTAINERS = (list, tuple, dict)
_CHARS_OF_A_SLOT = 8  # what an element of a list costs, beside what it refers to


class TooMuch(Exception):
    """A template asks for more text or more steps than any mail needs."""


class Allowance:
    """What is left for the part that is being rendered; `renew` before each one."""

    __slots__ = ("chars_left", "steps_left")

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.chars_left = MAX_WORK_CHARS
        self.steps_left = MAX_STEPS

    def take_chars(self, count: int) -> None:
        """Raises TooMuch once all values made by this part are larger than MAX_WORK_CHARS together."""
        self.chars_left -= count
        if self.chars_left < 0:
            raise TooMuch(f"the template makes more than {MAX_WORK_CHARS} characters on its way")

    def take_steps(self, count: int = 1) -> None:
        """Raises TooMuch after MAX_STEPS iterations and calls."""
        self.steps_left -= count
        if self.steps_left < 0:
            raise TooMuch(f"the template takes more than {MAX_STEPS} steps")

    def charge(self, value: Any) -> Any:
        """Count a value that was just made, without what it refers to; gives the value back."""
        if isinstance(value, str):
            self.take_chars(len(value))
        elif isinstance(value, _CONTAINERS):
            self.take_chars(len(value) * _CHARS_OF_A_SLOT)
        return value

    def count_steps(self, iterable: Iterable[Any]) -> Iterable[Any]:
        """The same items, each of them a step; those of a list, which no template can change, are counted before the first."""
        if iterable.__class__ is not list:
            return self._counted_on_the_way(iterable)
        self.take_steps(len(iterable))
        return iterable

    def _counted_on_the_way(self, iterable: Iterable[Any]) -> Iterator[Any]:
        for item in iterable:
            self.take_steps()
            yield item

    def join(self, pieces: Iterable[str]) -> str:
        """The pieces as one plain string; raises TooMuch before it is larger than MAX_OUTPUT_CHARS."""
        kept: list[str] = []
        size = 0
        for piece in pieces:
            size += len(piece)
            if size > MAX_OUTPUT_CHARS:
                raise TooMuch(f"the result is longer than {MAX_OUTPUT_CHARS} characters")
            kept.append(piece)
        return "".join(kept)


class Buffer(list[str]):
    """Where a macro, a block set or a filter block collects its output: counted while it grows, not when it is too late."""

    __slots__ = ("_allowance",)

    def __init__(self, allowance: Allowance) -> None:
        super().__init__()
        self._allowance = allowance

    def append(self, piece: str) -> None:
        self._allowance.take_chars(len(piece) + _CHARS_OF_A_SLOT)
        super().append(piece)


def expanded_size(value: Any, limit: int = MAX_TEXT_CHARS) -> int:
    """The characters that a value would print, roughly, with everything it refers to counted as often as it is referred to.

    Raises TooMuch as soon as that is more than `limit`: a list of lists of lists that share their elements is small in memory
    and endless on paper.
    """
    size = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        size += 1
        if isinstance(item, str):
            size += len(item)
        elif isinstance(item, list | tuple):
            size += len(item)
            _refuse_over(limit, size)
            waiting.extend(item)
        elif isinstance(item, dict):
            size += 2 * len(item)
            _refuse_over(limit, size)
            waiting.extend(item.keys())
            waiting.extend(item.values())
        _refuse_over(limit, size)
    return size


def _refuse_over(limit: int, size: int) -> None:
    if size > limit:
        raise TooMuch(f"a value is larger than {limit} characters")
