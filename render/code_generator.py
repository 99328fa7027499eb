"""How templates become Python: Jinja2's compiler, where everything that makes text asks the environment first.

Jinja2 lets operators, filters and calls be intercepted, but not `~`, slices, list literals and the buffers of macros; this
generator closes those gaps, and joins neighbouring output into one piece, which is also faster. It must never fold
constants: an expression that runs while compiling runs without limits.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame

_PIECES_PER_STRING = 16  # expressions joined unchecked; each is at most MAX_TEXT_CHARS long


class ConfinedCodeGenerator(CodeGenerator):
    """For a ConfinedEnvironment, whose methods the generated code calls: escape_text, print_value, getattr, concatenate, contain,
    charge, new_buffer. Where a call would only find out that there is nothing to do, the code finds that out itself: `value` is
    what an expression has just made.
    """

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:
        self.writeline("escape_text = environment.escape_text")
        super().visit_Template(node, frame)

    def buffer(self, frame: Frame) -> None:
        frame.buffer = self.temporary_identifier()
        self.writeline(f"{frame.buffer} = environment.new_buffer()")

    def visit_Output(self, node: nodes.Output, frame: Frame) -> None:
        """Template text and expressions, a few at a time, as one string each."""
        for start in range(0, len(node.nodes), _PIECES_PER_STRING):
            self._write_string(node.nodes[start : start + _PIECES_PER_STRING], node, frame)

    def _write_string(self, pieces: Sequence[nodes.Expr], node: nodes.Output, frame: Frame) -> None:
        if frame.buffer is None:
            self.writeline("yield ''.join((", node)
        else:
            self.writeline(f"{frame.buffer}.append(''.join((", node)
        for piece in pieces:
            self._write_piece(piece, frame)
        self.write("))" if frame.buffer is None else ")))")

    def _write_piece(self, piece: nodes.Expr, frame: Frame) -> None:
        if isinstance(piece, nodes.TemplateData):
            self.write(f"{piece.data!r}, ")
            return
        self.newline(piece)
        self.write("escape_text(value)" if self.environment.autoescape else "value")
        self.write(" if (value := ")
        self.visit(piece, frame)
        self.write(").__class__ is str else environment.print_value(value), ")

    def visit_Getattr(self, node: nodes.Getattr, frame: Frame) -> None:
        """A dict's own key is what the environment would answer with; it decides about everything else."""
        self.write(f"(value[{node.attr!r}] if (value := ")
        self.visit(node.node, frame)
        self.write(f").__class__ is dict and {node.attr!r} in value else environment.getattr(value, {node.attr!r}))")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concatenate((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Slice):
            self._write_through("charge", super().visit_Getitem, node, frame)
        else:
            super().visit_Getitem(node, frame)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._write_through("contain", super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._write_through("contain", super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._write_through("contain", super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def _write_through(self, method: str, write: Callable[[Any, Frame], None], node: nodes.Expr, frame: Frame) -> None:
        self.write(f"environment.{method}(")
        write(node, frame)
        self.write(")")
