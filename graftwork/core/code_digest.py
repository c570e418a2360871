"""Digests of code: what a function does, and what everything that it calls does.

`code_digest` follows names from an entry point: functions, classes and constants of this project, through imports at
the top of a module or inside a function. A class counts as a whole, with the classes that annotate its fields and the
parameters of its methods. Other libraries count by the name that is used of them. The digest does not change with comments,
docstrings, formatting, file times, the Python version, or a move of a definition to another module.

Code is read as text, never imported, so that parsing the workflow does not import torch. Where Python decides at run time
which of several definitions holds (branches at the top of a module, an import with a fallback), all of them count. Not
seen: names that are put together at run time, what another module changes in an object of this one, and registries. What
is looked up in a registry needs a digest of its own.
"""

import ast
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from graftwork.core.atomic import write_atomic
from graftwork.core.collector import resting
from graftwork.core.identity import DIGEST_LENGTH

OUTSIDE_DIGESTS = "names code"

REPOSITORY = Path(__file__).resolve().parents[2]
# Packages whose code is followed; what is imported from elsewhere counts by its name.
PACKAGES = ("graftwork", "lab", "workflow_scripts")

T = TypeVar("T")
# The names that are bound around a piece of code: () for variables, else what the imports of the name mean.
Scope = Mapping[str, tuple[str, ...]]

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
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
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


@cache
@resting()
def used_code(entry: str) -> "dict[str, Part]":
    """Returns what the digest of an entry point covers: `package.module:name` -> part, in the order in which it is met.

    Args:
        entry: `package.module:name`.

    Raises:
        ValueError: as `code_digest`.
    """
    module, _, name = entry.partition(":")
    if _source(module) is None:
        raise ValueError(f"{entry} is wanted for a code digest, but there is no module {module}")
    if name not in _module(module).definitions:
        raise ValueError(f"{entry} is wanted for a code digest, but {module} defines no {name}")
    if _is_marked(entry):
        raise ValueError(f"{entry} is wanted for a code digest, but it is marked as outside all digests")
    found: dict[str, Part] = {}
    waiting = [entry]
    while waiting:
        part_name = waiting.pop()
        if part_name not in found:
            part = found[part_name] = _part(part_name)
            waiting += [use for _, use in reversed(part.uses) if _is_ours(use)]
    return found


@cache
def _entry_digest(entry: str) -> str:
    if entry in _kept:
        return _kept[entry]
    found = _hash_parts(entry)
    if entry.partition(".")[0] in PACKAGES:
        _computed[entry] = found
    return found


def _hash_parts(entry: str) -> str:
    """Hashes the parts with how they refer to each other; neither depends on which modules they stand in."""
    parts = used_code(entry)
    number = {name: index for index, name in enumerate(parts)}
    lines = [
        f"{part.syntax_hash} {[(name, number.get(meaning, meaning)) for name, meaning in part.uses]}"
        for part in parts.values()
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# Entry point of this project -> its digest: what a former process has kept, and what this one has computed.
_kept: dict[str, str] = {}
_computed: dict[str, str] = {}


def source_digest() -> str:
    """Returns the digest of all source files of the project, with their comments and their places."""
    found = hashlib.sha256()
    for package in PACKAGES:
        for file in sorted((REPOSITORY / package).rglob("*.py")):
            content = file.read_bytes()
            found.update(f"{file.relative_to(REPOSITORY).as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()


def read_kept_digests(path: Path) -> None:
    """Takes digests that a former process has kept, if every source file is what it was then.

    Following the code takes seconds, and a start of the workflow needs all digests. Not for jobs: they ask later whether a file
    that they have read was written since, and with digests from a file nothing is read.

    Args:
        path: file of `keep_digests`. Where it is missing, damaged or of other source, digests are computed.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        digests, own = kept["digests"], kept["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if own == _seal(digests, source_digest()):
        _kept.update(digests)


def keep_digests(path: Path) -> None:
    """Writes the digests of this process for the next one, unless they are there."""
    digests = dict(sorted({**_kept, **_computed}.items()))
    sealed = {"digests": digests, "sha256": _seal(digests, source_digest())}
    text = json.dumps(sealed, indent=0)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)


def _seal(digests: Mapping[str, str], source: str) -> str:
    return hashlib.sha256(f"{source} {json.dumps(digests, sort_keys=True)}".encode()).hexdigest()


def _is_ours(meaning: str) -> bool:
    return ":" in meaning


@dataclass(frozen=True)
class Part:
    """One name that the top of a module defines.

    Attributes:
        syntax_hash: Digest of the syntax trees of the statements that define it.
        uses: (name or dotted name in the code, `module:name` of this project or the dotted name of another library's).
    """

    syntax_hash: str
    uses: tuple[tuple[str, str], ...]


class Module:
    """The names of a module.

    Attributes:
        definitions: Name -> the statements at its top that define or change it, whole: of `if`, `try`, `for` and `with`
            the condition counts, and every branch.
        imports: Name -> what it may mean: `module:name` or `module` of this project, or the dotted name of another
            library's; several where it is imported in more than one branch.
        outside: Whether the module is marked as outside all digests.
    """

    def __init__(self, name: str, source: str):
        self.name = name
        body = ast.parse(source).body
        bindings = [_Bindings.of(statement) for statement in body]
        self.imports = _join_imports(bindings)
        names = {name for found in bindings for name in found.names}
        has_globals = "global" in source
        self.definitions: dict[str, list[ast.stmt]] = {}
        for statement, found in zip(body, bindings, strict=True):
            changed = found.changed | (_declared_global(statement) if has_globals else set())
            for defined in sorted(found.names | changed & names):
                self.definitions.setdefault(defined, []).append(statement)
        self.outside = "OUTSIDE_DIGESTS" in self.definitions

    def part(self, name: str) -> Part:
        """Returns a definition and what it uses."""
        uses = _Uses(self)
        syntax = [canonical_syntax(node, uses.counts) for node in self.definitions[name]]
        return Part(
            hashlib.sha256("\n".join(syntax).encode()).hexdigest(),
            tuple(dict.fromkeys(uses.of(self.definitions[name]))),
        )

    def is_marked(self, name: str) -> bool:
        """Returns whether a definition is marked as outside all digests."""
        return self.outside or any(map(_has_mark, self._nodes(name)))

    def is_class(self, name: str) -> bool:
        """Returns whether a name is defined as a class."""
        return any(isinstance(node, ast.ClassDef) for node in self._nodes(name))

    def _nodes(self, name: str) -> Iterator[ast.AST]:
        for statement in self.definitions.get(name, ()):
            # A definition in a branch is inside of another statement.
            inner = [statement] if isinstance(statement, _DEFINITIONS) else ast.walk(statement)
            yield from (node for node in inner if isinstance(node, _DEFINITIONS) and node.name == name)


def _declared_global(statement: ast.stmt) -> set[str]:
    """Returns the names of the module that functions in a statement may bind anew."""
    return {name for node in ast.walk(statement) if isinstance(node, ast.Global) for name in node.names}


def _has_mark(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", None)
    return bool(decorators) and any(
        isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Name)
        and decorator.func.id == _MARK
        for decorator in decorators
    )


@cache
def _source(module: str) -> str | None:
    """Returns the text of a module of this project, or of one that is imported already; None where there is none."""
    path = REPOSITORY.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return _read_source(module, file)
    loaded = getattr(sys.modules.get(module), "__file__", None)
    return _read_source(module, Path(loaded)) if loaded and loaded.endswith(".py") else None


# Module -> its file and the signature that the file had when it was read.
_sources: dict[str, tuple[Path, tuple[int, ...] | None]] = {}


def _read_source(module: str, file: Path) -> str:
    # Before the text: a file that is written meanwhile counts as changed.
    _sources[module] = file, file_signature(file)
    return file.read_text(encoding="utf-8")


def file_signature(file: Path) -> tuple[int, ...] | None:
    """Returns what changes whenever a file is written or replaced, whatever is done to its times; None without one."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def changed_modules() -> list[str]:
    """Returns the modules whose files were written since they were read for a digest."""
    # A copy: another thread may read one meanwhile.
    return sorted(name for name, (file, seen) in dict(_sources).items() if file_signature(file) != seen)


def forget_code() -> None:
    """Makes the next digests those of the code as it is on disk then."""
    _sources.clear()
    _kept.clear()
    _computed.clear()
    for function in (used_code, _entry_digest, _source, _module, _part, _is_marked):
        function.cache_clear()


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


class _Bindings(ast.NodeVisitor):
    """Finds what a piece of code binds in its own scope, which is not that of the functions and classes inside.

    Attributes:
        names: Variables, functions and classes.
        imports: Name -> what imports of it mean.
        outer: Names that belong to the module by a `global` statement.
        changed: Names of objects that an assignment to an item or attribute changes, or a method that is called as a
            statement.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.imports: dict[str, tuple[str, ...]] = {}
        self.outer: set[str] = set()
        self.changed: set[str] = set()

    @classmethod
    def of(cls, *nodes: ast.AST) -> "_Bindings":
        found = cls()
        for node in nodes:
            found.visit(node)
        return found

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.names.add(node.id)

    def _visit_definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.names.add(node.name)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _visit_definition

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Has a scope of its own."""

    def _visit_comprehension(self, node: ast.AST) -> None:
        """Has a scope of its own, except for `:=`."""
        for inner in ast.walk(node):
            if isinstance(inner, ast.NamedExpr):
                self.visit(inner.target)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension

    def _visit_named(self, node: ast.ExceptHandler | ast.MatchAs | ast.MatchStar) -> None:
        if node.name:
            self.names.add(node.name)
        self.generic_visit(node)

    visit_ExceptHandler = visit_MatchAs = visit_MatchStar = _visit_named

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self.names.add(node.rest)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self.outer |= set(node.names)

    def _visit_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name, meaning in _imported(node).items():
            self.imports[name] = (*self.imports.get(name, ()), meaning)

    visit_Import = visit_ImportFrom = _visit_import

    def _visit_part(self, node: ast.Attribute | ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._change(node)
        self.generic_visit(node)

    visit_Attribute = visit_Subscript = _visit_part

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            self._change(node.value.func)
        self.generic_visit(node)

    def _change(self, node: ast.AST) -> None:
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        if isinstance(node, ast.Name):
            self.changed.add(node.id)


def _join_imports(bindings: Iterable[_Bindings]) -> dict[str, tuple[str, ...]]:
    joined: dict[str, tuple[str, ...]] = {}
    for found in bindings:
        for name, meanings in found.imports.items():
            joined[name] = (*joined.get(name, ()), *meanings)
    return joined


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Returns what an import statement binds: name -> what it means."""
    if isinstance(node, ast.Import):
        # `import a.b` binds `a`; `import a.b as c` binds `c` to `a.b`.
        return {
            alias.asname or alias.name.partition(".")[0]: alias.name
            if alias.asname
            else alias.name.partition(".")[0]
            for alias in node.names
        }
    imports_all = any(alias.name == "*" for alias in node.names)
    if node.level or node.module is None or imports_all:
        raise ValueError(
            f"a code digest cannot follow `{ast.unparse(node)}`; name the whole module, and what is imported of it"
        )
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

    def of(self, nodes: Iterable[ast.stmt]) -> Iterator[tuple[str, str]]:
        """Yields (name in the code, what it means), in the order of the code."""
        for node in nodes:
            yield from self._visit(node, {})

    def counts(self, decorator: ast.expr) -> bool:
        """Returns whether a decorator changes what code does; one that is marked only registers."""
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(called, ast.Name) and called.id == _MARK:
            return False
        if not isinstance(called, ast.Name | ast.Attribute):
            return True
        meanings = [meaning for _, meaning in self._all_meanings(called, {})]
        return not any(_is_ours(meaning) and _is_marked(meaning) for meaning in meanings)

    def _visit(self, node: ast.AST, scope: Scope) -> Iterator[tuple[str, str]]:
        """Walks a tree; `scope` holds the names that are bound around it."""
        if isinstance(node, ast.Import | ast.ImportFrom) or _has_mark(node):
            return
        if isinstance(node, ast.Attribute | ast.Name):
            yield from self._meanings(node, scope)
        elif isinstance(node, _FUNCTIONS):
            yield from self._visit_function(node, scope)
        elif isinstance(node, _COMPREHENSIONS):
            yield from self._visit_comprehension(node, scope)
        else:
            yield from self._visit_fields(node, scope)

    def _visit_fields(self, node: ast.AST, scope: Scope) -> Iterator[tuple[str, str]]:
        for field, value in ast.iter_fields(node):
            children = [c for c in (value if isinstance(value, list) else [value]) if isinstance(c, ast.AST)]
            if field == "annotation":
                yield from self._annotated(children, scope)
            elif field == "decorator_list":
                yield from self._visit_all(filter(self.counts, children), scope)
            elif field not in ("returns", "type_params"):
                yield from self._visit_all(children, scope)

    def _visit_all(self, nodes: Iterable[ast.AST], scope: Scope) -> Iterator[tuple[str, str]]:
        for node in nodes:
            yield from self._visit(node, scope)

    def _visit_function(self, node: Any, scope: Scope) -> Iterator[tuple[str, str]]:
        """Decorators and defaults belong to the scope around a function, its body to its own."""
        given = node.args
        arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        arguments += [argument for argument in (given.vararg, given.kwarg) if argument]
        defaults = [*given.defaults, *(default for default in given.kw_defaults if default)]
        body = node.body if isinstance(node.body, list) else [node.body]
        yield from self._visit_all(filter(self.counts, getattr(node, "decorator_list", ())), scope)
        yield from self._visit_all(defaults, scope)
        yield from self._annotated((a.annotation for a in arguments if a.annotation), scope)
        bound = _Bindings.of(*body)
        names = ({argument.arg for argument in arguments} | bound.names) - bound.outer
        inner = {name: meanings for name, meanings in scope.items() if name not in bound.outer}
        inner |= dict.fromkeys(names, ())
        yield from self._visit_all(body, inner | bound.imports)

    def _visit_comprehension(self, node: Any, scope: Scope) -> Iterator[tuple[str, str]]:
        """The first iterable belongs to the scope around a comprehension, the rest to its own."""
        targets = _Bindings.of(*(generator.target for generator in node.generators)).names
        inner = {**scope, **dict.fromkeys(targets, ())}
        first = node.generators[0].iter
        yield from self._visit(first, scope)
        for child in ast.iter_child_nodes(node):
            parts = ast.iter_child_nodes(child) if isinstance(child, ast.comprehension) else [child]
            yield from self._visit_all((part for part in parts if part is not first), inner)

    def _annotated(
        self, annotations: Iterable[ast.AST], scope: Scope, followed: frozenset[str] = frozenset()
    ) -> Iterator[tuple[str, str]]:
        """Yields the classes of this project that annotations name, also by an alias: their methods may be called.

        Args:
            annotations: Expressions.
            scope: Names that are bound around them.
            followed: Aliases that are being followed.
        """
        for node in annotations:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                try:
                    yield from self._annotated([ast.parse(node.value, mode="eval").body], scope, followed)
                except SyntaxError:
                    continue  # A value of a Literal, not a name.
            elif not isinstance(node, ast.Name | ast.Attribute):
                yield from self._annotated(ast.iter_child_nodes(node), scope, followed)
            else:
                for name, meaning in self._meanings(node, scope):
                    yield from self._classes(name, meaning, followed)

    def _classes(self, name: str, meaning: str, followed: frozenset[str]) -> Iterator[tuple[str, str]]:
        if not _is_ours(meaning) or meaning in followed:
            return
        module, defined = _split(meaning)
        if module.is_class(defined):
            yield f"annotation {name}", meaning
            return
        values = [getattr(node, "value", None) for node in module.definitions[defined]]
        for inner, found in _Uses(module)._annotated(filter(None, values), {}, followed | {meaning}):
            yield f"annotation {name} {inner}", found

    def _meanings(self, node: ast.Attribute | ast.Name, scope: Scope) -> Iterator[tuple[str, str]]:
        """Yields (name, meaning) of what counts."""
        for name, meaning in self._all_meanings(node, scope):
            if not (_is_ours(meaning) and _is_marked(meaning)):
                yield name, meaning

    def _all_meanings(self, node: ast.Attribute | ast.Name, scope: Scope) -> Iterator[tuple[str, str]]:
        attributes: list[str] = []
        value: ast.AST = node
        while isinstance(value, ast.Attribute):
            attributes.insert(0, value.attr)
            value = value.value
        if not isinstance(value, ast.Name):
            yield from self._visit(value, scope)
            return
        name = value.id
        for meaning in scope[name] if name in scope else _meanings_at_top(self._module, name):
            yield from _resolve(name, meaning, attributes)


def _meanings_at_top(module: Module, name: str) -> list[str]:
    """Returns what a name may mean at the top of a module; nothing for a builtin."""
    own = [f"{module.name}:{name}"] if name in module.definitions else []
    return [*own, *module.imports.get(name, ())]


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
        attributes = attributes[1:]
    if not _is_ours(meaning):
        yield ".".join([name, *attributes]), ".".join([meaning, *attributes])
        return
    module, defined = _split(meaning)
    if defined in module.definitions:
        yield name, meaning
    elif defined not in module.imports:
        raise ValueError(f"{meaning} is used, but {module.name} defines no {defined}")
    for imported in module.imports.get(defined, ()):
        yield from _resolve(name, imported, attributes)


def _split(meaning: str) -> tuple[Module, str]:
    module, _, defined = meaning.partition(":")
    return _module(module), defined


@cache
def _is_marked(meaning: str) -> bool:
    module, defined = _split(meaning)
    return defined in module.definitions and module.is_marked(defined)


def canonical_syntax(node: ast.AST, counts: Callable[[ast.expr], bool] = lambda decorator: False) -> str:
    """Returns a text of the syntax tree that is the same for every Python version from 3.11 on.

    `ast.dump` and `ast.unparse` both changed between 3.11 and 3.13 (empty fields, quotes in f-strings), so the tree
    is written here: node type and its non-empty fields, docstrings, annotations and imports left out. Trees differ too:
    3.12 puts empty constants into nested format specifications, and which characters `repr` escapes follows the
    version's Unicode tables.

    Args:
        node: Any node.
        counts: Whether a decorator is part of what code does.
    """
    if isinstance(node, ast.AnnAssign):
        return _canonical_assignment(node, "Assign", counts) if node.value else ""
    if isinstance(node, ast.Import | ast.ImportFrom) or _has_mark(node):
        return ""  # What imported names mean counts where they are used.
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "decorator_list":
            value = list(filter(counts, value))
        if name in _IGNORED_FIELDS or value is None or value == []:
            continue
        if name == "body" and isinstance(value, list):
            value = _without_docstring(node, value)
        if isinstance(node, ast.JoinedStr):
            value = [part for part in value if not (isinstance(part, ast.Constant) and part.value == "")]
        fields.append(f"{name}={_canonical_field(value, counts, in_class=isinstance(node, ast.ClassDef))}")
    return f"{type(node).__name__}({','.join(fields)})"


def _canonical_field(value: object, counts: Callable[[ast.expr], bool], in_class: bool = False) -> str:
    if isinstance(value, list):
        # An annotation without a value is no code, and leaves no empty place in a body either.
        return "[" + ",".join(filter(None, (_canonical_field(v, counts, in_class) for v in value))) + "]"
    if in_class and isinstance(value, ast.AnnAssign):
        # Of a dataclass, annotated names are the fields, in their order.
        return _canonical_assignment(value, "Field", counts)
    return canonical_syntax(value, counts) if isinstance(value, ast.AST) else ascii(value)


def _canonical_assignment(node: ast.AnnAssign, kind: str, counts: Callable[[ast.expr], bool]) -> str:
    value = f",value={canonical_syntax(node.value, counts)}" if node.value else ""
    return f"{kind}(targets=[{canonical_syntax(node.target, counts)}]{value})"


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
