"""The Jinja2 environment that templates run in: confined in what they can reach, make and repeat.

Two of these exist in a renderer, one that escapes for HTML and one for subjects and plain text. There is no loader, so no
include, import or extends; no template may switch escaping off; undefined variables are errors. Jinja2's own sandbox decides
by lists of what is forbidden; this one by lists of what is allowed.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from types import BuiltinMethodType, MethodType
from typing import Any

import markupsafe
from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, nodes
from jinja2.runtime import BlockReference, Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.tests import TESTS
from jinja2.utils import Joiner, Namespace
from markupsafe import Markup

from render.allowance import MAX_TEXT_CHARS, Allowance, Buffer, TooMuch, expanded_size
from render.code_generator import ConfinedCodeGenerator
from render.filters import allowed_filters, check_replacement, check_width
from render.printf import BoundedEscapeFormatter, BoundedFormatter, check_printf

# What escape() calls, without the Markup object around the result: what is printed is joined at once. Private in MarkupSafe 3.0,
# so its public twin stands in wherever a version has renamed it.
_escape: Callable[[str], str] = getattr(markupsafe, "_escape_inner", markupsafe.escape)

_TEXT_METHODS = frozenset({
    "capitalize", "casefold", "center", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdecimal", "isdigit", "islower",
    "isnumeric", "isspace", "istitle", "isupper", "join", "ljust", "lower", "lstrip", "partition", "removeprefix", "removesuffix",
    "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase",
    "title", "upper", "zfill",
})  # fmt: skip
_PADDING_METHODS = frozenset({"center", "ljust", "rjust", "zfill"})
_METHODS: dict[type, frozenset[str]] = {
    str: _TEXT_METHODS,
    Markup: _TEXT_METHODS,
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index", "grouper", "list"}),
}
_OPEN_TYPES = (LoopContext, Namespace, BlockReference)  # Jinja2's own, whose public attributes are made for templates
_NUMBERS = (int, float, Decimal)
_CONTAINERS = (list, tuple, dict)
_MAX_NUMBER_BITS = 10_000
_FORBIDDEN_NODES: dict[type[nodes.Node], str] = {
    nodes.Extends: "a template stands alone: extends is not available",
    nodes.Include: "a template stands alone: include is not available",
    nodes.Import: "a template stands alone: import is not available",
    nodes.FromImport: "a template stands alone: import is not available",
    nodes.EvalContextModifier: "escaping cannot be switched off",
}


class ConfinedEnvironment(ImmutableSandboxedEnvironment):
    """`escapes_html` for HTML parts. The allowance is shared and belongs to one thread."""

    code_generator_class = ConfinedCodeGenerator
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, allowance: Allowance, escapes_html: bool) -> None:
        super().__init__(undefined=StrictUndefined, autoescape=escapes_html, finalize=None, optimized=False, cache_size=0)
        self._allowance = allowance
        self.print_value: Callable[[Any], str] = print_html if escapes_html else print_plain
        self.escape_text = _escape
        self.charge = allowance.charge
        self.concat = allowance.join  # type: ignore[method-assign]
        self.filters = allowed_filters(allowance.charge, print_plain) | {"count_steps": allowance.count_steps}
        self.tests = {name: test for name, test in TESTS.items() if name != "callable"}
        self.globals = {"range": safe_range, "dict": self._make_dict, "namespace": Namespace, "joiner": Joiner}

    def confined_tree(self, source: str, name: str) -> nodes.Template:
        """The parsed template, with its loops counted. Raises TemplateSyntaxError, also for what is not allowed here."""
        tree = self.parse(source, name)
        for forbidden, why in _FORBIDDEN_NODES.items():
            found = tree.find(forbidden)
            if found is not None:
                raise TemplateSyntaxError(why, found.lineno, name)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "count_steps", [], [], None, None, lineno=loop.lineno, environment=self)
        return tree

    # -- what the generated code calls

    def new_buffer(self) -> Buffer:
        return Buffer(self._allowance)

    def contain(self, value: Any) -> Any:
        """A list, tuple or dict that a template made, unless it would print endlessly."""
        expanded_size(value)
        return self._allowance.charge(value)

    def concatenate(self, parts: Iterable[Any]) -> str:
        """What `~` means: in HTML, parts that are safe already stay so and the others are escaped beside them."""
        values = list(parts)
        if self.autoescape and any(isinstance(value, Markup) for value in values):
            return Markup(self._joined(print_html(value) for value in values))  # noqa: S704  # each part is escaped
        return self._joined(print_plain(value) for value in values)

    def _joined(self, texts: Iterable[str]) -> str:
        pieces: list[str] = []
        for text in texts:
            self._allowance.take_chars(len(text))
            pieces.append(text)
        joined = "".join(pieces)
        _check_made(len(joined))
        return joined

    def _make_dict(self, *arguments: Any, **items: Any) -> Any:
        return self.contain(dict(*arguments, **items))

    # -- what Jinja2's sandbox asks

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`order.items` is the key "items" where there is one, and the method of dict only where there is none."""
        if obj.__class__ is dict:
            try:
                return obj[attribute]
            except KeyError:
                pass
        elif obj.__class__ is LoopContext and not attribute.startswith("_"):
            return getattr(obj, attribute)  # Jinja2's own object: the short way for what every loop asks
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if attr.startswith("_"):
            return False
        if isinstance(obj, _OPEN_TYPES):
            return True
        return any(isinstance(obj, kind) and attr in methods for kind, methods in _METHODS.items())

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._allowance.take_steps()
        if isinstance(obj, BuiltinMethodType | MethodType) and isinstance(obj.__self__, str):
            _check_text_method(obj.__self__, obj.__name__, args)
        return self._allowance.charge(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            check_printf(left, right)
        elif operator == "*":
            _check_product(left, right)
        elif operator == "**":
            _check_power(left, right)
        elif operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            _check_made(len(left) + len(right))
        made = super().call_binop(context, operator, left, right)
        return self.contain(made) if isinstance(made, list | tuple) else self._allowance.charge(made)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if not isinstance(value, MethodType | BuiltinMethodType) or value.__name__ not in ("format", "format_map"):
            return None
        if not isinstance(value.__self__, str):
            return None
        return partial(self._format_map if value.__name__ == "format_map" else self._format, value.__self__)

    def _format(self, pattern: str, /, *args: Any, **kwargs: Any) -> str:
        if isinstance(pattern, Markup):
            return Markup(BoundedEscapeFormatter(self, self._allowance, escape=pattern.escape).vformat(pattern, args, kwargs))  # noqa: S704
        return BoundedFormatter(self, self._allowance).vformat(pattern, args, kwargs)

    def _format_map(self, pattern: str, mapping: Any, /) -> str:
        return self._format(pattern, **mapping)


def print_html(value: Any) -> str:
    """A value as it appears in HTML: escaped, unless it is Markup."""
    kind = value.__class__
    if kind is str:
        return _escape(value)
    if kind is int or kind is float:  # nothing to escape in a number
        return str(value)
    if isinstance(value, Markup):
        return value
    return _escape(print_plain(value))


def print_plain(value: Any) -> str:
    """A value as it appears in plain text. None is nothing: no mail begins with "Hello None". Raises for what is not data."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, _NUMBERS):
        return str(value)
    if isinstance(value, _CONTAINERS):
        expanded_size(value)
        return str(value)
    if isinstance(value, Undefined):
        return str(value)  # an undefined one raises
    raise TypeError(f"a {type(value).__name__} cannot be printed")


def _check_made(size: int) -> None:
    if size > MAX_TEXT_CHARS:
        raise TooMuch(f"a value is larger than {MAX_TEXT_CHARS}")


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    elif isinstance(left, str | list | tuple) and isinstance(right, int):
        _check_made(len(left) * right)
    elif isinstance(right, str | list | tuple) and isinstance(left, int):
        _check_made(len(right) * left)


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * abs(right))


def _check_bits(bits: int) -> None:
    if bits > _MAX_NUMBER_BITS:
        raise TooMuch(f"a number has more than {_MAX_NUMBER_BITS} bits")


def _check_text_method(text: str, method: str, arguments: tuple[Any, ...]) -> None:
    if method in _PADDING_METHODS and arguments:
        check_width(arguments[0])
    elif method == "replace" and len(arguments) > 1:
        check_replacement(text, arguments[0], arguments[1])
    elif method == "join" and arguments:
        if not isinstance(arguments[0], list | tuple | dict | str):
            raise TypeError("join takes a list")
        _check_made(expanded_size(arguments[0]) + len(arguments[0]) * len(text))
