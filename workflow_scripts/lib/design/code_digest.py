"""Digests of functions: what a piece of code does, without what it says about itself.

A digest changes with the syntax tree of a function and with that of the functions it is declared to rely on; it
does not change with comments, docstrings, type annotations, formatting, file times or the Python version. Code is
read as text, never imported, so that parsing the workflow does not import torch.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from workflow_scripts.lib.design.identity import DIGEST_LENGTH

REPOSITORY = Path(__file__).resolve().parents[3]

# Fields that differ between Python versions or carry no meaning for what the code does.
_IGNORED_FIELDS = {
    "type_comment",
    "type_params",
    "kind",
    "ctx",
    "annotation",
    "returns",
    "lineno",
    "col_offset",
    "end_lineno",
    "end_col_offset",
}


def code_digest(parts: Iterable[str]) -> str:
    """Returns the digest of several pieces of code, independent of their order.

    Args:
        parts: Each `package.module` (a whole module) or `package.module:name` (a function, class or assignment at
            the top level of the module, or `Class.method`).

    Raises:
        ValueError: where a part does not exist, naming it.
    """
    lines = sorted(f"{part}={_part_digest(part)}" for part in set(parts))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGEST_LENGTH]


@cache
def _part_digest(part: str) -> str:
    module, _, name = part.partition(":")
    tree = _parse(module)
    node = tree if not name else _find(tree, name.split("."), part)
    return hashlib.sha256(canonical_syntax(node).encode()).hexdigest()


@cache
def _parse(module: str) -> ast.Module:
    path = REPOSITORY.joinpath(*module.split(".")).with_suffix(".py")
    if not path.is_file():
        raise ValueError(f"{module} is listed for a code digest, but {path} does not exist")
    return ast.parse(path.read_text(encoding="utf-8"))


def _find(tree: ast.AST, names: list[str], part: str) -> ast.AST:
    for node in getattr(tree, "body", []):
        defines = (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == names[0]
        )
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if defines or any(isinstance(t, ast.Name) and t.id == names[0] for t in targets):
            return node if len(names) == 1 else _find(node, names[1:], part)
    raise ValueError(f"{part} is listed for a code digest, but the module defines no {'.'.join(names)}")


def canonical_syntax(node: ast.AST) -> str:
    """Returns a text of the syntax tree that is the same for every Python version from 3.11 on.

    `ast.dump` and `ast.unparse` both changed between 3.11 and 3.13 (empty fields, quotes in f-strings), so the tree
    is written here: node type and its non-empty fields, docstrings and annotations left out. Trees differ too: 3.12
    puts empty constants into nested format specifications, and which characters `repr` escapes follows the
    version's Unicode tables.
    """
    if isinstance(node, ast.AnnAssign):
        if node.value is None:
            return ""
        target, value = canonical_syntax(node.target), canonical_syntax(node.value)
        return f"Assign(targets=[{target}],value={value})"
    fields = []
    for name, value in ast.iter_fields(node):
        if name in _IGNORED_FIELDS or value is None or value == []:
            continue
        if name == "body" and isinstance(value, list):
            value = _without_docstring(node, value)
        if name == "decorator_list":
            # Decorators register a function; what they say about it (label, formula) is documentation.
            continue
        if isinstance(node, ast.JoinedStr):
            value = [part for part in value if not (isinstance(part, ast.Constant) and part.value == "")]
        fields.append(f"{name}={_canonical_field(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _canonical_field(value: object) -> str:
    if isinstance(value, list):
        # An annotation without a value is no code, and leaves no empty place in a body either.
        return "[" + ",".join(filter(None, map(_canonical_field, value))) + "]"
    if isinstance(value, ast.AST):
        return canonical_syntax(value)
    return ascii(value)


def _without_docstring(node: ast.AST, body: list[ast.stmt]) -> list[ast.stmt]:
    documented = isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    first = body[0] if body else None
    is_docstring = (
        documented
        and isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    return body[1:] if is_docstring else body
