"""Digests of code: what a function does, and what everything that it calls does.

`code_digest` follows names from an entry point: functions, classes and constants of this project, through imports at
the top of a module or inside a function. A class counts as a whole, with the classes that annotate its fields and the
parameters of its methods. Other libraries count by the name that is used of them. The digest does not change with comments,
docstrings, formatting, file times, the Python version, or a move of a definition to another module.

Code is read as text, never imported, so that parsing the workflow does not import torch. Not seen: names that are put
together at run time, and registries. What is looked up in a registry needs a digest of its own.
"""

import ast
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from graftwork.core.identity import DIGEST_LENGTH

OUTSIDE_DIGESTS = "names code"

REPOSITORY = Path(__file__).resolve().parents[2]
# Packages whose code is followed; what is imported from elsewhere counts by its name.
PACKAGES = ("graftwork", "lab", "workflow_scripts")

T = TypeVar("T")

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
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_MARK = "outside_digests"


def outside_digests(reason: str) -> Callable[[T], T]:
    """Marks a function or class that changes no byte of a result, so that no digest contains it.

    Used as a decorator on what raises errors, logs, or looks up something that has a digest of its own; a decorator that
    only registers is marked too. A module is marked as a whole by `OUTSIDE_DIGESTS = "reason"`.

    Args:
        reason: Why its code cannot change a result.
    """
    return lambda marked: marked


def code_digest(*entries: str | Callable[..., Any]) -> str:
    """Returns the digest of entry points and of everything that they use.

    Args:
        entries: Functions or classes, or `package.module:name` for what must not be imported. Order does not matter.

    Raises:
        ValueError: where an entry point does not exist, naming it.
    """
    digests = sorted({_entry_digest(entry_name(entry)) for entry in entries})
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:DIGEST_LENGTH]


def entry_name(entry: str | Callable[..., Any]) -> str:
    """Returns an entry point as `package.module:name`."""
    return entry if isinstance(entry, str) else f"{entry.__module__}:{entry.__qualname__}"


def used_code(entry: str | Callable[..., Any]) -> list[str]:
    """Returns what the digest of an entry point covers, as `package.module:name`, in the order it is met."""
    return list(_walk(entry_name(entry)))


@cache
def _entry_digest(entry: str) -> str:
    """Hashes the parts with how they refer to each other; neither depends on which modules they stand in."""
    parts = _walk(entry)
    number = {name: index for index, name in enumerate(parts)}
    lines = [
        f"{part.syntax_hash} {[(name, number.get(meaning, meaning)) for name, meaning in part.uses]}"
        for part in parts.values()
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@cache
def _walk(entry: str) -> "dict[str, Part]":
    """Returns name -> part, depth first, in the order in which names are met."""
    module, _, name = entry.partition(":")
    if _source(module) is None:
        raise ValueError(f"{entry} is wanted for a code digest, but there is no module {module}")
    if name not in _module(module).definitions:
        raise ValueError(f"{entry} is wanted for a code digest, but {module} defines no {name}")
    found: dict[str, Part] = {}
    waiting = [entry]
    while waiting:
        part_name = waiting.pop()
        if part_name in found:
            continue
        part = found[part_name] = _part(part_name)
        waiting += [use for _, use in reversed(part.uses) if _is_ours(use)]
    return found


def _is_ours(meaning: str) -> bool:
    return ":" in meaning


@dataclass(frozen=True)
class Part:
    """One definition at the top of a module.

    Attributes:
        nodes: Its syntax; several where a name is assigned more than once.
        uses: (name or dotted name in the code, `module:name` of this project or the dotted name of another library's).
    """

    nodes: tuple[ast.stmt, ...]
    uses: tuple[tuple[str, str], ...]

    @cached_property
    def syntax_hash(self) -> str:
        """Digest of its syntax tree."""
        return hashlib.sha256("\n".join(map(canonical_syntax, self.nodes)).encode()).hexdigest()


class Module:
    """The names of a module.

    Attributes:
        definitions: Name -> the statements at its top that define it.
        imports: Name -> `module:name` or `module` of this project, or the dotted name of another library's.
        outside: Whether the module is marked as outside all digests.
    """

    def __init__(self, name: str, source: str):
        self.name = name
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, str] = {}
        for statement in _top_statements(ast.parse(source).body):
            self.imports |= _imported(statement)
            for defined in _defined(statement):
                self.definitions.setdefault(defined, []).append(statement)
        self.outside = "OUTSIDE_DIGESTS" in self.definitions

    def part(self, name: str) -> Part:
        """Returns a definition and what it uses."""
        nodes = tuple(self.definitions[name])
        return Part(nodes, tuple(dict.fromkeys(_Uses(self).of(nodes))))

    def is_marked(self, name: str) -> bool:
        """Returns whether a definition is marked as outside all digests."""
        return self.outside or any(map(_has_mark, self.definitions[name]))


def _has_mark(node: ast.AST) -> bool:
    return any(
        isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Name)
        and decorator.func.id == _MARK
        for decorator in getattr(node, "decorator_list", ())
    )


@cache
def _source(module: str) -> str | None:
    """Returns the text of a module of this project, or of one that is imported already; None where there is none."""
    path = REPOSITORY.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file.read_text(encoding="utf-8")
    loaded = getattr(sys.modules.get(module), "__file__", None)
    return Path(loaded).read_text(encoding="utf-8") if loaded else None


@cache
def _module(name: str) -> Module:
    source = _source(name)
    if source is None:
        raise ValueError(f"there is no module {name} to read for a code digest")
    return Module(name, source)


@cache
def _part(name: str) -> Part:
    module, _, defined = name.partition(":")
    return _module(module).part(defined)


def _top_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yields the statements that are run on import, those inside `if`, `try` and `with` too."""
    for statement in body:
        yield statement
        if not isinstance(statement, _DEFINITIONS):
            for field in ("body", "orelse", "handlers", "finalbody"):
                for inner in getattr(statement, field, ()):
                    yield from _top_statements(
                        inner.body if isinstance(inner, ast.ExceptHandler) else [inner]
                    )


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, _DEFINITIONS):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [
        name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)
    ]


def _imported(node: ast.AST) -> dict[str, str]:
    """Returns what an import statement binds: name -> what it means."""
    if isinstance(node, ast.Import):
        # `import a.b` binds `a`; `import a.b as c` binds `c` to `a.b`.
        return {
            alias.asname or alias.name.partition(".")[0]: alias.name
            if alias.asname
            else alias.name.partition(".")[0]
            for alias in node.names
        }
    if not isinstance(node, ast.ImportFrom) or not node.module or node.level:
        return {}
    bound = {}
    for alias in node.names:
        ours = node.module.partition(".")[0] in PACKAGES
        is_module = ours and _source(f"{node.module}.{alias.name}") is not None
        separator = ":" if ours and not is_module else "."
        bound[alias.asname or alias.name] = f"{node.module}{separator}{alias.name}"
    return bound


class _Uses:
    """Finds the names of a piece of code that mean something outside of it."""

    def __init__(self, module: Module):
        self._module = module

    def of(self, nodes: tuple[ast.stmt, ...]) -> Iterator[tuple[str, str]]:
        """Yields (name in the code, what it means), in the order of the code."""
        for node in nodes:
            yield from self._visit(node, {})

    def _visit(self, node: ast.AST, scope: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
        """Walks a tree; `scope` holds the names that are bound around it: None for variables, else what is imported."""
        if isinstance(node, ast.Import | ast.ImportFrom) or _has_mark(node):
            return
        if isinstance(node, ast.Attribute | ast.Name):
            yield from self._meanings(node, scope)
            return
        if isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            scope = {**scope, **_bound_in(node)}
        elif isinstance(node, _COMPREHENSIONS):
            targets = (name for generator in node.generators for name in ast.walk(generator.target))
            scope = {**scope, **{name.id: None for name in targets if isinstance(name, ast.Name)}}
        for field, value in ast.iter_fields(node):
            if field in ("returns", "type_params"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST):
                    continue
                if field == "annotation":
                    yield from self._annotated(child)
                elif field != "decorator_list" or not self._is_outside(child):
                    yield from self._visit(child, scope)

    def _annotated(self, annotation: ast.AST) -> Iterator[tuple[str, str]]:
        """Yields the classes of this project that an annotation names: their methods may be called."""
        for node in ast.walk(annotation):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                try:
                    yield from self._annotated(ast.parse(node.value, mode="eval").body)
                except SyntaxError:
                    continue  # A value of a Literal, not a name.
            elif isinstance(node, ast.Name):
                for name, meaning in self._meanings(node, {}):
                    if _is_ours(meaning) and _is_class(meaning):
                        yield f"annotation {name}", meaning

    def _meanings(
        self, node: ast.Attribute | ast.Name, scope: Mapping[str, str | None]
    ) -> Iterator[tuple[str, str]]:
        attributes: list[str] = []
        value: ast.AST = node
        while isinstance(value, ast.Attribute):
            attributes.insert(0, value.attr)
            value = value.value
        if not isinstance(value, ast.Name):
            yield from self._visit(value, scope)
            return
        name = value.id
        if name in scope:
            meaning = scope[name]
        elif name in self._module.definitions:
            meaning = f"{self._module.name}:{name}"
        else:
            meaning = self._module.imports.get(name)
        if meaning is None:
            return
        yield from _resolve(name, meaning, attributes)

    def _is_outside(self, decorator: ast.AST) -> bool:
        """Returns whether a decorator only marks or registers."""
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if not isinstance(called, ast.Name):
            return False
        if called.id == _MARK:
            return True
        meaning = self._module.imports.get(called.id)
        if called.id in self._module.definitions:
            meaning = f"{self._module.name}:{called.id}"
        return meaning is not None and _is_ours(meaning) and _is_marked(meaning)


def _resolve(name: str, meaning: str, attributes: list[str]) -> Iterator[tuple[str, str]]:
    """Yields what `name.attribute...` means: a definition of this project, or the dotted name of another library's."""
    if not _is_ours(meaning) and meaning.partition(".")[0] in PACKAGES:
        # A module of this project: what is used of it is the attribute.
        while attributes and _source(f"{meaning}.{attributes[0]}") is not None:
            name, meaning = f"{name}.{attributes[0]}", f"{meaning}.{attributes[0]}"
            attributes = attributes[1:]
        if not attributes:
            raise ValueError(
                f"module {meaning} is used as a value; a code digest needs the names that are used of it"
            )
        name, meaning = f"{name}.{attributes[0]}", f"{meaning}:{attributes[0]}"
    if not _is_ours(meaning):
        yield ".".join([name, *attributes]), ".".join([meaning, *attributes])
        return
    module, _, defined = meaning.partition(":")
    if defined not in _module(module).definitions:
        # Imported there from elsewhere.
        imported = _module(module).imports.get(defined)
        if imported is None:
            raise ValueError(f"{meaning} is used, but {module} defines no {defined}")
        yield from _resolve(name, imported, attributes)
    elif not _is_marked(meaning):
        yield name, meaning


@cache
def _is_marked(meaning: str) -> bool:
    module, _, defined = meaning.partition(":")
    found = _module(module)
    return defined in found.definitions and found.is_marked(defined)


def _is_class(meaning: str) -> bool:
    module, _, defined = meaning.partition(":")
    return any(isinstance(node, ast.ClassDef) for node in _module(module).definitions[defined])


def _bound_in(function: ast.AST) -> dict[str, str | None]:
    """Returns the names that a function binds: None for its arguments and variables, and what its imports mean."""
    bound: dict[str, str | None] = {}
    for argument in ast.walk(function.args):  # type: ignore[attr-defined]
        if isinstance(argument, ast.arg):
            bound[argument.arg] = None
    body = function.body if isinstance(function.body, list) else [function.body]  # type: ignore[attr-defined]
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Global):
            for name in node.names:
                bound.pop(name, None)
            continue
        bound |= _imported(node)
        if isinstance(node, _DEFINITIONS):
            bound[node.name] = None
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound[node.id] = None
        if isinstance(node, ast.ExceptHandler) and node.name:
            bound[node.name] = None
        waiting += ast.iter_child_nodes(node)
    return bound


def canonical_syntax(node: ast.AST) -> str:
    """Returns a text of the syntax tree that is the same for every Python version from 3.11 on.

    `ast.dump` and `ast.unparse` both changed between 3.11 and 3.13 (empty fields, quotes in f-strings), so the tree
    is written here: node type and its non-empty fields, docstrings, annotations and imports left out. Trees differ too:
    3.12 puts empty constants into nested format specifications, and which characters `repr` escapes follows the
    version's Unicode tables.
    """
    if isinstance(node, ast.AnnAssign):
        if node.value is None:
            return ""
        target, value = canonical_syntax(node.target), canonical_syntax(node.value)
        return f"Assign(targets=[{target}],value={value})"
    if isinstance(node, ast.Import | ast.ImportFrom) or _has_mark(node):
        return ""  # What imported names mean counts where they are used.
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
