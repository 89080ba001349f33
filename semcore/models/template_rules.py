"""Rules of prompt templates: they show their variables, choose with `if`, and loop over candidates.

Prompts are edited, and passed on, by anyone. The sandbox of jinja2 keeps a template from the machine, but not from
counting to 10**9 or from writing a gigabyte. So a template does no arithmetic beyond + and -, calls nothing, and has no
loop within a loop: it takes as long as it and what it shows are long.
"""

from __future__ import annotations

from typing import TypeAlias

from jinja2 import nodes

FILTERS = (
    "capitalize", "count", "default", "first", "int", "join", "last", "length", "list", "lower", "reverse", "string",
    "title", "trim", "upper", "wordcount",
)  # fmt: skip
ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem,
    nodes.Slice, nodes.For, nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not,
    nodes.Neg, nodes.Test, nodes.Filter, nodes.Assign, nodes.List, nodes.Tuple, nodes.Concat, nodes.Add, nodes.Sub,
)  # fmt: skip
_WORDS = {
    nodes.Call: "call", nodes.Macro: "macro", nodes.Include: "include", nodes.Import: "import",
    nodes.FromImport: "import", nodes.Extends: "extends", nodes.Block: "block", nodes.Mul: "*", nodes.Pow: "**",
    nodes.Mod: "%", nodes.Div: "/", nodes.FloorDiv: "//", nodes.AssignBlock: "set block",
    nodes.FilterBlock: "filter block", nodes.Dict: "dictionary",
}  # fmt: skip
Fault: TypeAlias = tuple[int, str]
"""Line, and what a template may not say there."""


def fault_of(template: nodes.Template) -> Fault | None:
    """Return the first thing that a template may not say; None where all is allowed."""
    for node in _all(template):
        if not isinstance(node, ALLOWED):
            return node.lineno, _WORDS.get(type(node), type(node).__name__.lower())
        if isinstance(node, nodes.Filter) and node.name not in FILTERS:
            return node.lineno, f"filter {node.name!r}"
        if isinstance(node, nodes.For) and any(node is not own for own in node.find_all(nodes.For)):
            return node.lineno, "loop within a loop"
        if isinstance(node, nodes.Assign | nodes.For):  # a text that is doubled again and again
            grown = node.node if isinstance(node, nodes.Assign) else node.iter
            if any(isinstance(own, nodes.Concat | nodes.Add) for own in _all(grown)):
                return node.lineno, "~ or + in what is set or looped over"
    return None


def _all(node: nodes.Node) -> list[nodes.Node]:
    """Return a node and all nodes below it, without recursion: expressions may be nested deeply."""
    found, waiting = [], [node]
    while waiting:
        own = waiting.pop()
        found.append(own)
        waiting += own.iter_child_nodes()
    return found
