"""Compiled templates: the three parts of a stored template as functions, kept per (name, version).

Compiling costs a thousand times as much as rendering, so it happens once per version and process, also when it fails. Whatever
goes wrong in here is the template's or its data's fault and comes out as a RenderError that names the template, the part and
the line.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any

import jinja2
from jinja2.exceptions import UndefinedError
from jinja2.runtime import Context

from mail.errors import RenderError
from mail.template import Template
from render.allowance import Allowance, TooMuch
from render.environment import ConfinedEnvironment
from render.time_limit import OutOfTime, TimeLimit

MAX_SOURCE_CHARS = 512 * 1024  # of one part
MAX_TAGS = 5000  # of one part: compiling takes about 100 µs and 5 KB for each
RENDER_LIMIT_S = 0.5  # CPU, all parts of one email; an ordinary one takes a ten-thousandth of that
COMPILE_LIMIT_S = 2.0  # CPU, all parts of one template
KEPT_TEMPLATES = 200
_MAX_ERROR_CHARS = 300

Part = tuple[str, jinja2.Template]


class CompiledTemplate:
    """One version of a template, ready to be rendered any number of times."""

    def __init__(self, template: Template, parts: Mapping[str, jinja2.Template], allowance: Allowance, time_limit: TimeLimit) -> None:
        self._name = template.name
        self._variables = template.variables
        self._parts = parts
        self._allowance = allowance
        self._time_limit = time_limit

    def render(self, names: dict[str, Any]) -> tuple[str, str, str]:
        """Subject, HTML and text. `names` is what the template sees; the same dict serves all three parts and is not changed.

        Raises RenderError: `missing-variables` for a declared or used name that is not there, else `render-error`.
        """
        missing = [name for name in self._variables if name not in names and not is_present(name, names)]
        if missing:
            raise RenderError("missing-variables", f"template {self._name}: {', '.join(missing)}")
        try:
            return self._time_limit.run(RENDER_LIMIT_S, partial(self._render_parts, names))
        except OutOfTime:
            raise RenderError("render-error", f"template {self._name}: more than {RENDER_LIMIT_S} s of CPU") from None

    def _render_parts(self, names: dict[str, Any]) -> tuple[str, str, str]:
        return self._render_part("subject", names), self._render_part("html", names), self._render_part("text", names)

    def _render_part(self, part: str, names: dict[str, Any]) -> str:
        compiled = self._parts.get(part)
        if compiled is None:
            return ""
        self._allowance.renew()
        try:
            # Template.render() costs 15-30 µs more than calling what it calls, and Template.new_context() three times as much as
            # what it makes (measured, Jinja2 3.1.6): it lists the globals for imports, which no template here has
            context = Context(compiled.environment, names, compiled.name, compiled.blocks)
            return self._allowance.join(compiled.root_render_func(context))
        except Exception as error:  # templates can raise anything, and each of it costs this email only
            raise _render_error(self._name, part, error) from None


class TemplateCompiler:
    """Compiles templates and keeps the last KEPT_TEMPLATES of them. Belongs to one thread."""

    def __init__(self) -> None:
        self._allowance = Allowance()
        self._time_limit = TimeLimit()
        self._html = ConfinedEnvironment(self._allowance, escapes_html=True)
        self._plain = ConfinedEnvironment(self._allowance, escapes_html=False)
        self._kept: OrderedDict[tuple[str, str], CompiledTemplate | RenderError] = OrderedDict()

    @property
    def globals(self) -> Mapping[str, Any]:
        """What every template sees beside its data."""
        return self._plain.globals

    def compiled(self, template: Template) -> CompiledTemplate:
        """The compiled template of this name and version. Raises RenderError `render-error` where it cannot be compiled."""
        key = (template.name, template.version)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self._compile(template)
            if len(self._kept) > KEPT_TEMPLATES:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        if isinstance(found, RenderError):
            raise RenderError(found.reason, found.error)
        return found

    def _compile(self, template: Template) -> CompiledTemplate | RenderError:
        try:
            parts = self._time_limit.run(COMPILE_LIMIT_S, partial(self._compile_parts, template))
        except RenderError as error:
            return error
        except OutOfTime:
            return RenderError("render-error", f"template {template.name}: compiling takes more than {COMPILE_LIMIT_S} s of CPU")
        return CompiledTemplate(template, parts, self._allowance, self._time_limit)

    def _compile_parts(self, template: Template) -> dict[str, jinja2.Template]:
        sources: Iterable[tuple[str, ConfinedEnvironment, str]] = (
            ("subject", self._plain, template.subject.strip()),
            ("html", self._html, template.html),
            ("text", self._plain, template.text),
        )
        return {part: _compile_part(template.name, part, source, environment) for part, environment, source in sources if source}


def is_present(name: str, names: Mapping[str, Any]) -> bool:
    """Whether a declared variable is there; a dotted one is looked up step by step."""
    found: Any = names
    for step in (name,) if name in names else name.split("."):
        if not isinstance(found, Mapping) or step not in found:
            return False
        found = found[step]
    return True


def _compile_part(name: str, part: str, source: str, environment: ConfinedEnvironment) -> jinja2.Template:
    if len(source) > MAX_SOURCE_CHARS:
        raise RenderError("render-error", f"template {name}, {part}: longer than {MAX_SOURCE_CHARS} characters")
    if source.count("{{") + source.count("{%") > MAX_TAGS:
        raise RenderError("render-error", f"template {name}, {part}: more than {MAX_TAGS} expressions and statements")
    try:
        return environment.from_string(environment.confined_tree(source, part))
    except jinja2.TemplateSyntaxError as error:
        raise RenderError("render-error", f"template {name}, {part}, line {error.lineno}: {error.message}") from None
    except Exception as error:  # nesting that is too deep for the parser, Jinja2's compiler or Python's
        raise RenderError("render-error", f"template {name}, {part}: {_described(error)}") from None


def _render_error(name: str, part: str, error: Exception) -> RenderError:
    reason = "missing-variables" if isinstance(error, UndefinedError) else "render-error"
    line = _line_in_template(error.__traceback__)
    where = f"template {name}, {part}" + (f", line {line}" if line else "")
    return RenderError(reason, f"{where}: {_described(error)}")


def _described(error: Exception) -> str:
    text = str(error)[:_MAX_ERROR_CHARS]
    return text if isinstance(error, jinja2.TemplateError | TooMuch) and text else f"{type(error).__name__}: {text}"


def _line_in_template(traceback: TracebackType | None) -> int | None:
    """The line of the template's source in which the innermost of its functions was."""
    line = None
    while traceback is not None:
        compiled = traceback.tb_frame.f_globals.get("__jinja_template__")
        if compiled is not None:
            line = compiled.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return line
