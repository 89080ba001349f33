"""Docstrings of the sources: modules open with a noun phrase or imperative, arrays of public functions have shapes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("semcore", "data_prep", "recipes", "benchmarks")
SOURCES = sorted(path for program in PROGRAMS for path in (ROOT / program).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

QUESTION = re.compile(r"(what|how|which|where|from|whether|who|whose|when|why)\b", re.IGNORECASE)
ARRAY = re.compile(r"\b(Tensor|ndarray|NDArray|csr_matrix)\b")
# (queries, beams), (B, L, H), (n,), (...), or () of a scalar; a single word without a comma is a remark.
SHAPE = re.compile(r"\((?:|\.\.\.|[\w ./*+-]+,[^()]*)\)|\bany shape\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Yield qualified name and function of a module's public functions and public classes' public methods."""
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, Function) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner


def takes_or_returns_arrays(function: Function) -> bool:
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
    annotations = [argument.annotation for argument in every if argument is not None]
    return any(node is not None and ARRAY.search(ast.unparse(node)) for node in (*annotations, function.returns))


def without_shape(source: str) -> list[str]:
    """Return the public functions with arrays in their signature and no shape in their own docstring."""
    return [
        name
        for name, function in public_functions(ast.parse(source))
        if takes_or_returns_arrays(function) and not SHAPE.search(ast.get_docstring(function) or "")
    ]


def opens_with_a_question(source: str) -> bool:
    return QUESTION.match(ast.get_docstring(ast.parse(source)) or "") is not None


@pytest.mark.parametrize("paths", [SOURCES, TESTS], ids=["sources", "tests"])
def test_no_module_docstring_opens_with_a_question_word(paths: list[Path]) -> None:
    assert paths
    assert [str(path.relative_to(ROOT)) for path in paths if opens_with_a_question(path.read_text())] == []


def test_public_functions_give_the_shapes_of_their_arrays() -> None:
    found = {str(path.relative_to(ROOT)): without_shape(path.read_text()) for path in SOURCES}
    assert {path: names for path, names in found.items() if names} == {}


def test_a_question_word_is_found() -> None:
    assert opens_with_a_question('"""What a model reads."""')
    assert not opens_with_a_question('"""Whatever a model reads."""')


@pytest.mark.parametrize(
    ("signature", "docstring", "complete"),
    [
        ("f(x: torch.Tensor) -> None", "Take states (rows, hidden).", True),
        ("f(x: torch.Tensor) -> None", "Take states (of a model).", False),
        ("f() -> dict[str, NDArray[Any]]", "Return name -> weights (of any shape).", True),
        ("f() -> torch.Tensor", "Return the loss, a scalar ().", True),
        ("f(*, x: Sequence[torch.Tensor] = ()) -> int", "Count them.", False),
        ("f(x: int) -> int", "Add one.", True),
        ("_f(x: torch.Tensor) -> None", "Take states.", True),
    ],
)
def test_a_missing_shape_is_found(signature: str, docstring: str, complete: bool) -> None:
    assert without_shape(f'def {signature}:\n    """{docstring}"""') == ([] if complete else ["f"])
    method = f'class Public:\n    def {signature}:\n        """{docstring}"""'
    assert without_shape(method) == ([] if complete else ["Public.f"])
