"""The filters that templates may use: Jinja2's harmless ones, bounded twins of the dangerous ones, and a few of ours.

`attr`, `pprint`, `random` and `xmlattr` are left out. `safe` never lets job data through as it is: it cleans HTML first.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import nh3
from jinja2 import Undefined, pass_environment, pass_eval_context
from jinja2 import filters as stock
from jinja2.nodes import EvalContext
from markupsafe import Markup

from render import presentation
from render.allowance import MAX_TEXT_CHARS, TooMuch, expanded_size
from render.printf import check_printf

Filter = Callable[..., Any]

MAX_WIDTH = 1000  # of padding, indentation, batches: no mail has wider lines or rows
_MAX_WRAPPED_CHARS = 100_000
_MAX_PRECISION = 15

# These give back what they were given, or a number: nothing to charge.
_SELECTING = ("abs", "count", "d", "default", "first", "float", "int", "last", "length", "max", "min", "wordcount")
_MAKING = (
    "capitalize", "dictsort", "e", "escape", "filesizeformat", "forceescape", "groupby", "items", "list", "lower", "map", "reject",
    "rejectattr", "reverse", "select", "selectattr", "sort", "striptags", "title", "trim", "truncate", "unique", "upper", "urlencode",
)  # fmt: skip

_SAFE_ATTRIBUTES = {"*": {"style", "align", "valign", "width", "height", "bgcolor", "dir", "lang", "title"}}
_SAFE_STYLES = {
    "background-color", "border", "border-collapse", "border-radius", "color", "font-family", "font-size", "font-style", "font-weight",
    "height", "letter-spacing", "line-height", "margin", "max-width", "padding", "text-align", "text-decoration", "vertical-align", "width",
}  # fmt: skip

_CLEANER = nh3.Cleaner(
    attributes={tag: names | _SAFE_ATTRIBUTES["*"] for tag, names in nh3.ALLOWED_ATTRIBUTES.items()} | _SAFE_ATTRIBUTES,
    filter_style_properties=_SAFE_STYLES,
    url_schemes={"http", "https", "mailto", "tel", "cid"},
)


def allowed_filters(charge: Callable[[Any], Any], print_plain: Callable[[Any], str]) -> dict[str, Filter]:
    """By name, every filter of a template. `charge` counts what was made; `print_plain` spells a value as a template would."""
    making: dict[str, Filter] = {name: stock.FILTERS[name] for name in _MAKING}
    making |= _BOUNDED | {"string": print_plain}
    filters: dict[str, Filter] = {name: stock.FILTERS[name] for name in _SELECTING}
    filters |= {name: _charged(function, charge) for name, function in making.items()}
    return filters


def _charged(function: Filter, charge: Callable[[Any], Any]) -> Filter:
    @wraps(function)  # keeps the mark by which Jinja2 knows what to pass first
    def charged(*arguments: Any, **options: Any) -> Any:
        for argument in arguments:
            if isinstance(argument, Undefined):
                str(argument)  # raises the error that names the variable; what filters raise for it does not
        return charge(function(*arguments, **options))

    return charged


def check_width(width: Any) -> None:
    """Raises TooMuch for what would pad, indent or repeat more than MAX_WIDTH times."""
    if not isinstance(width, int) or abs(width) > MAX_WIDTH:
        raise TooMuch(f"a width is a number of at most {MAX_WIDTH}")


def check_replacement(text: str, old: str, new: str) -> None:
    """Raises TooMuch where replacing `old` by `new` makes more than MAX_TEXT_CHARS."""
    if len(text) + text.count(old) * len(new) > MAX_TEXT_CHARS:
        raise TooMuch(f"a replacement makes more than {MAX_TEXT_CHARS} characters")


def _check_text(text: str, limit: int) -> None:
    if len(text) > limit:
        raise TooMuch(f"this filter takes at most {limit} characters")


def _batch(value: Iterable[Any], linecount: int, fill_with: Any = None) -> Any:
    check_width(linecount)
    return stock.do_batch(value, linecount, fill_with)


def _slice(value: Any, slices: int, fill_with: Any = None) -> Any:
    check_width(slices)
    return stock.sync_do_slice(value, slices, fill_with)


def _center(value: str, width: int = 80) -> str:
    check_width(width)
    return stock.do_center(value, width)


def _indent(value: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    by = len(width) if isinstance(width, str) else width
    check_width(by)
    text = str(value)
    if len(text) + (len(text.splitlines()) + 1) * by > MAX_TEXT_CHARS:
        raise TooMuch(f"an indentation makes more than {MAX_TEXT_CHARS} characters")
    return stock.do_indent(value, width, first, blank)


@pass_environment
def _wordwrap(
    environment: Any,
    value: str,
    width: int = 79,
    break_long_words: bool = True,
    wrapstring: str | None = None,
    break_on_hyphens: bool = True,
) -> str:
    check_width(width)
    _check_text(value, _MAX_WRAPPED_CHARS)
    if wrapstring is not None:
        _check_text(wrapstring, 10)
    return stock.do_wordwrap(environment, value, width, break_long_words, wrapstring, break_on_hyphens)


@pass_eval_context
def _replace(eval_ctx: EvalContext, value: Any, old: Any, new: Any, count: int | None = None) -> str:
    expanded_size([value, old, new])
    check_replacement(str(value), str(old), str(new))
    return stock.do_replace(eval_ctx, value, old, new, count)


@pass_eval_context
def _join(eval_ctx: EvalContext, value: Iterable[Any], d: Any = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        value = map(stock.make_attrgetter(eval_ctx.environment, attribute), value)
    items = list(value)
    if expanded_size(items) + len(items) * expanded_size(d) > MAX_TEXT_CHARS:
        raise TooMuch(f"a join makes more than {MAX_TEXT_CHARS} characters")
    return stock.sync_do_join(eval_ctx, items, d)


def _format(value: str, *arguments: Any, **options: Any) -> str:
    check_printf(value, options or arguments)
    return stock.do_format(value, *arguments, **options)


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    if not isinstance(precision, int) or abs(precision) > _MAX_PRECISION:
        raise TooMuch(f"a precision is a number of at most {_MAX_PRECISION}")
    return stock.do_round(value, precision, method)


@pass_environment
def _sum(environment: Any, iterable: Iterable[Any], attribute: str | int | None = None, start: float = 0) -> float:
    """Of numbers only: adding up lists costs the square of their number."""
    if attribute is not None:
        iterable = map(stock.make_attrgetter(environment, attribute), iterable)
    numbers = list(iterable)
    if not all(isinstance(number, int | float) for number in [start, *numbers]):
        raise TypeError("sum adds numbers only")
    return sum(numbers, start)


@pass_eval_context
def _urlize(eval_ctx: EvalContext, value: str, trim_url_limit: int | None = None, nofollow: bool = False, target: str | None = None) -> str:
    _check_text(value, _MAX_WRAPPED_CHARS)
    return stock.do_urlize(eval_ctx, value, trim_url_limit, nofollow, target)


@pass_eval_context
def _tojson(eval_ctx: EvalContext, value: Any, indent: int | None = None) -> Markup:
    check_width(indent or 0)
    lines = expanded_size(value)
    if lines * (indent or 0) > MAX_TEXT_CHARS:
        raise TooMuch(f"a JSON text makes more than {MAX_TEXT_CHARS} characters")
    return stock.do_tojson(eval_ctx, value, indent)


@pass_eval_context
def _safe(eval_ctx: EvalContext, value: Any) -> str:
    """HTML of job data, cleaned of everything that acts: scripts, handlers, forms, frames, style sheets, odd schemes."""
    if isinstance(value, Markup) or not eval_ctx.autoescape:
        return str(value) if not eval_ctx.autoescape else value
    _check_text(str(value), MAX_TEXT_CHARS)
    return Markup(_CLEANER.clean(str(value)))  # noqa: S704  # cleaned right here


_BOUNDED: dict[str, Filter] = {
    "batch": _batch,
    "center": _center,
    "date": presentation.format_date,
    "datetime": presentation.format_datetime,
    "format": _format,
    "indent": _indent,
    "join": _join,
    "link": presentation.safe_link,
    "money": presentation.format_money,
    "replace": _replace,
    "round": _round,
    "safe": _safe,
    "slice": _slice,
    "sum": _sum,
    "time": presentation.format_time,
    "tojson": _tojson,
    "urlize": _urlize,
    "wordwrap": _wordwrap,
}
