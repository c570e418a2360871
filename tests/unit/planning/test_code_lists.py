"""The lists of code that keys contain, held against what that code uses.

Every name of this project that a listed function uses is itself listed, or exempt for a reason written here. The code
is read, not run: names of modules, functions, classes and constants are followed, calls of methods on other objects
are not (an encoder's methods count with its class).
"""

import ast
from collections.abc import Iterable, Iterator

import pytest

from workflow_scripts.lib.conditioning.registry import STAGES, transforms
from workflow_scripts.lib.design.code_digest import REPOSITORY
from workflow_scripts.lib.planning import scope
from workflow_scripts.lib.planning.code_lists import (
    CONDITIONING_CODE,
    EXTRACTION_CODE,
    FAST_SAMPLING_CODE,
    SAMPLING_CODE,
)
from workflow_scripts.lib.planning.corpus_keys import STATISTICS_CODE

PACKAGE = "workflow_scripts"
LIB = "workflow_scripts.lib."
EXEMPT = {
    f"{LIB}models.hardware:check_hardware": "raises errors, computes nothing",
    f"{LIB}models.description:read_json": "reads a file",
    f"{LIB}models.protocols:EncodedSequence": "a container without behaviour",
    f"{LIB}models.z_image:_check_arguments": "raises errors, computes nothing",
    f"{LIB}models.acceleration:NEUTRAL": "append-only; each setting is in the key where it has another value",
    f"{LIB}models.z_image:_finite_rows": "says whether an image is kept, not what it is",
    f"{LIB}models.tokens:ROLE_CODES": "append-only; stored with the hidden states, whose keys cover models.tokens",
    f"{LIB}statistics.reference:ReferenceStatistics": "a container that checks what it is given",
    f"{LIB}conditioning.registry:transform": "looks a function up, whose digest is in the recipe",
}

LISTS = {
    **{f"extraction {family}": parts for family, parts in EXTRACTION_CODE.items()},
    "statistics": STATISTICS_CODE,
    "conditioning": CONDITIONING_CODE,
    **{f"sampling {family}": parts for family, parts in SAMPLING_CODE.items()},
    **{
        f"accelerated sampling {family}": (*SAMPLING_CODE[family], *parts)
        for family, parts in FAST_SAMPLING_CODE.items()
    },
    **{
        f"{stage} {name}": (f"{entry.function.__module__}:{entry.function.__name__}", *entry.relies_on)
        for stage in STAGES
        for name, entry in transforms(stage).items()
    },
}


class Module:
    """What the names in a module mean: name -> `module:name` of this project."""

    def __init__(self, name: str, source: str | None = None):
        path = REPOSITORY.joinpath(*name.split(".")).with_suffix(".py")
        self.name = name
        self.tree = ast.parse(path.read_text(encoding="utf-8") if source is None else source)
        self.meanings: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
                for alias in node.names:
                    self.meanings[alias.asname or alias.name] = f"{node.module}:{alias.name}"
        for node in self.tree.body:
            for defined in _defined(node):
                self.meanings[defined] = f"{name}:{defined}"

    def find(self, names: list[str]) -> ast.AST:
        node: ast.AST = self.tree
        for name in names:
            node = next(child for child in node.body if name in _defined(child))
        return node


def _defined(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """Walks what a digest covers: no annotations and no decorators."""
    yield node
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _code(child)


def used_by(part: str, module: Module | None = None) -> set[str]:
    """Returns what a part uses of this project, as `module:name` (`module:Class.method` for methods of its class)."""
    name, _, inside = part.partition(":")
    module = module or Module(name)
    names = inside.split(".") if inside else []
    node = module.find(names)
    used = set()
    for child in _code(node):
        if isinstance(child, ast.Name) and child.id in module.meanings:
            used.add(module.meanings[child.id])
        is_own = isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name)
        if is_own and child.value.id in ("self", "cls") and len(names) == 2:
            methods = [m for member in module.find(names[:1]).body for m in _defined(member)]
            if child.attr in methods:
                used.add(f"{name}:{names[0]}.{child.attr}")
    return used - {part}


def uncovered(parts: Iterable[str], exempt: Iterable[str] = EXEMPT) -> dict[str, str]:
    """Returns what is used and neither listed nor exempt -> the part that uses it."""
    parts = set(parts)
    missing = {}
    for part in sorted(parts):
        for used in sorted(used_by(part)):
            covers = {used, used.partition(":")[0], used.rpartition(".")[0]}
            if not covers & parts and used not in exempt:
                missing[used] = part
    return missing


@pytest.mark.parametrize("name", LISTS)
def test_everything_that_listed_code_uses_is_listed(name):
    assert uncovered(LISTS[name]) == {}


def test_no_exemption_has_become_needless():
    """Else code that is used again some day would go unnoticed."""
    needed = {use for parts in LISTS.values() for use in uncovered(parts, exempt=())}
    assert sorted(needed) == sorted(EXEMPT)


def test_a_part_left_out_of_a_list_is_noticed():
    """The check itself: of each list, every part that another one uses is missed when it is gone."""
    noticed = set()
    for parts in LISTS.values():
        for part in parts:
            if part in {use for other in parts if other != part for use in used_by(other)}:
                rest = [other for other in parts if other != part]
                assert part in uncovered(rest), part
                noticed.add(part)
    assert len(noticed) >= 15


def test_what_the_walk_sees():
    source = """
from workflow_scripts.lib.models.tokens import assign_roles as assign
LIMIT: int = 3
def helper(): ...
def unused(): ...
class A:
    def run(self, x: "unused"):
        from workflow_scripts.lib.models.images import load_reference_image
        return self.step(helper, LIMIT, assign(load_reference_image), key=helper)
    def step(self): return self.other
    @unused
    def other(self): ...
"""
    module = Module("m", source)
    models = f"{LIB}models."
    assert used_by("m:A.run", module) == {
        "m:A.step",
        "m:helper",
        "m:LIMIT",
        f"{models}tokens:assign_roles",
        f"{models}images:load_reference_image",
    }
    assert used_by("m:A.step", module) == {"m:A.other"}
    assert used_by("m:A.other", module) == set()


def test_lists_contain_no_input_or_output():
    """Progress, logs, PNG files and manifests may change without making anything anew."""
    for name, parts in LISTS.items():
        for part in parts:
            module = part.partition(":")[0]
            assert not module.startswith((f"{LIB}store", f"{LIB}presentation")), (name, part)


def test_every_family_has_its_code():
    from workflow_scripts.lib.models.description import ENCODER_FAMILIES, GENERATOR_FAMILIES

    assert set(EXTRACTION_CODE) == set(ENCODER_FAMILIES)
    assert set(SAMPLING_CODE) == set(FAST_SAMPLING_CODE) == set(GENERATOR_FAMILIES)


@pytest.mark.parametrize("name", ["_TABLE_CODE", "_GRID_CODE", "_EXPORT_CODE"])
def test_presentation_is_made_anew_after_an_edit_of_any_module_it_uses(name):
    """These lists are of whole modules. A table only asks the PNG module whether an image is there."""
    parts = getattr(scope, name)
    presentation = f"{LIB}presentation."
    used = {
        node.module
        for part in parts
        for node in ast.walk(Module(part).tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(presentation)
    }
    assert used - set(parts) <= ({f"{presentation}png"} if name == "_TABLE_CODE" else set())
