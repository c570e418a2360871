"""The shape of the repository: what stands where, what may import what, and what nothing uses."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import graftwork

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "workflow_scripts"
LIBRARY = REPOSITORY / "graftwork"
RULES = sorted((REPOSITORY / "rules").glob("*.smk"))
FOLDERS = ("graftwork", "lab", "workflow_scripts", "benchmarks", "tests")
PYTHON = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))
# Scripts that are run by people and by the Makefile, not by a rule.
COMMANDS = {"describe_config", "draw_scene", "ship_miniature", "write_corpora"}
# Packages of the library, lowest first: the list in the docstring of graftwork/__init__.py.
PACKAGES = re.findall(r"^ {4}(\w+) {2,}\w", graftwork.__doc__ or "", re.MULTILINE)
# The folders whose modules a module in a folder may import.
MAY_IMPORT = {
    "graftwork": {"graftwork"},
    "lab": {"graftwork", "lab"},
    "workflow_scripts": {"graftwork"},
    "benchmarks": {"graftwork", "lab", "benchmarks"},
    "tests": set(FOLDERS),
}
# What takes seconds to import.
SLOW_LIBRARIES = {"torch", "transformers", "diffusers", "h5py", "pandas", "matplotlib"}


def rules() -> dict[str, str]:
    """Name of a rule or checkpoint -> its text."""
    found = {}
    for file in RULES:
        parts = re.split(
            r"^(?:rule|checkpoint) (\w+):\n", file.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            indented = re.match(r"(?:(?: {4}.*)?\n)*", body)
            found[name] = indented[0]
    return found


def script_of(body: str) -> str | None:
    match = re.search(r'^ {4}script:\n {8}"\.\./workflow_scripts/(\w+)\.py"$', body, re.MULTILINE)
    return match and match[1]


SCRIPTED = {name: body for name, body in rules().items() if script_of(body)}


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@cache
def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (line, module or `module.name`) of every import, wherever it stands in the file."""
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def docstrings(tree: ast.Module) -> set[ast.AST]:
    """Returns the nodes of strings that are statements: docstrings, and nothing that code could use."""
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (line, text) of every string in the code of a file, docstrings left out."""
    left_out = docstrings(syntax(path))
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in left_out:
            yield node.lineno, node.value


def modules_after(program: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules, sep='\\n')"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_the_order_of_packages_names_all_of_them():
    folders = {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    assert len(PACKAGES) == len(set(PACKAGES))
    assert set(PACKAGES) == folders
    assert {path.name for path in LIBRARY.glob("*.py")} == {"__init__.py"}


def forbidden_uses(path: Path) -> Iterator[str]:
    """Yields `file:line: what it uses` for everything in a file of the library that its package may not know."""
    own = path.relative_to(LIBRARY).parts[0]
    # The library's own `__init__` offers notebooks what they use, from whatever package.
    is_front = path == LIBRARY / "__init__.py"
    allowed = PACKAGES if is_front else PACKAGES[: PACKAGES.index(own) + 1] if own in PACKAGES else []
    named = [
        (line, match)
        for line, text in strings(path)
        for match in re.findall(r"\bgraftwork\.[\w.:]+", text)
        if match.split(".")[1].partition(":")[0] in PACKAGES
    ]
    for line, used in [*imports(path), *named]:
        folder, _, rest = used.partition(".")
        if folder not in FOLDERS:
            continue
        package = re.split(r"[.:]", rest)[0]
        if folder != "graftwork" or package not in allowed:
            yield f"{relative(path)}:{line}: {used}"


def test_packages_use_only_packages_before_them():
    """Imports at the top, in functions and under TYPE_CHECKING, and names of modules in strings."""
    violations = [line for path in sorted(LIBRARY.rglob("*.py")) for line in forbidden_uses(path)]
    order = " < ".join(PACKAGES)
    assert not violations, f"a package may use only itself and those before it: {order}\n" + "\n".join(
        violations
    )


def test_folders_import_only_what_they_may():
    violations = []
    for path in PYTHON:
        folder = path.relative_to(REPOSITORY).parts[0]
        trains = folder == "workflow_scripts" and "miniature" in path.stem
        allowed = MAY_IMPORT[folder] | ({"lab"} if trains else set())
        for line, used in imports(path):
            if used.partition(".")[0] in set(FOLDERS) - allowed:
                violations.append(f"{relative(path)}:{line}: {used}")
    assert not violations, "\n".join(violations)


def test_the_snakefile_configures_includes_and_names_the_default_target():
    text = (REPOSITORY / "Snakefile").read_text(encoding="utf-8")
    assert re.findall(r"^(?:rule|checkpoint) (\w+):", text, re.MULTILINE) == ["all"]
    assert not re.search(r"^ *(?:def|class|for|if|while|with|try)\b", text, re.MULTILINE)
    assert set(re.findall(r'^include: "rules/(.+)"$', text, re.MULTILINE)) == {path.name for path in RULES}


def test_every_rule_is_found():
    assert {
        "plan_conditioning",
        "extract_hidden_states",
        "condition",
        "plan_images",
        "generate_images",
    } <= set(SCRIPTED)
    assert len(SCRIPTED) >= 9


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_script_has_the_name_of_its_rule(name):
    assert script_of(SCRIPTED[name]) == name
    assert (SCRIPTS / f"{name}.py").is_file()


def test_every_script_belongs_to_a_rule_or_is_a_command():
    assert {path.stem for path in SCRIPTS.glob("*.py")} - {"__init__"} == set(SCRIPTED) | COMMANDS


@pytest.mark.parametrize("name", SCRIPTED)
def test_every_rule_has_a_log_and_a_message(name):
    assert re.search(r'^ {4}log:\n {8}"logs/', SCRIPTED[name], re.MULTILINE)
    assert re.search(r"^ {4}message:$", SCRIPTED[name], re.MULTILINE)
    assert f'"logs/{name}' in SCRIPTED[name]


@pytest.mark.parametrize("name", SCRIPTED)
def test_every_rule_leaves_a_benchmark_and_says_what_it_needs(name):
    """The benchmark has the name of the log; memory and time are for clusters."""
    body = SCRIPTED[name]
    log = re.search(r'^ {4}log:\n {8}"logs/(.*)\.log",$', body, re.MULTILINE)[1]
    benchmark = re.search(r'^ {4}benchmark:\n {8}"(.*)"$', body, re.MULTILINE)
    if re.search(r"^ {4}output:$", body, re.MULTILINE):
        assert benchmark, f"rule {name} has no benchmark"
        assert benchmark[1] == f"logs/benchmarks/{log}.tsv"
    else:
        # It would be taken for an output: asked for a second time, the rule would have nothing to do.
        assert benchmark is None, f"rule {name} has no output, and would run only once"
    resources = re.search(r"^ {4}resources:\n((?: {8}.*\n)+)", body, re.MULTILINE)
    assert resources, f"rule {name} has no resources"
    for resource in ("mem_mb", "runtime"):
        assert re.search(rf"^ {{8}}{resource}=\d+,$", resources[1], re.MULTILINE), (name, resource)


@pytest.mark.parametrize(
    "name", ["extract_hidden_states", "write_captions", "generate_images", "measure_images", "accept"]
)
def test_rules_that_run_models_take_a_gpu(name):
    assert re.search(r"^ {4}resources:\n(?: {8}.*\n)* {8}gpu=1,$", SCRIPTED[name], re.MULTILINE)


def test_no_other_rule_takes_a_gpu():
    with_gpu = {name for name, body in rules().items() if re.search(r"^ +gpu=", body, re.MULTILINE)}
    first = {name for name, body in rules().items() if re.search(r"^ {4}priority: 1$", body, re.MULTILINE)}
    assert first == with_gpu, "a small job that comes before one of these leaves the GPU without work"
    assert with_gpu == {
        "extract_hidden_states",
        "write_captions",
        "generate_images",
        "measure_images",
        "accept",
        "measure_maps",
        "train_miniature_stage",
    }


def test_there_is_a_total_of_gpus():
    """Without one, `gpu=1` limits nothing. The workflow tests see its effect; here it is only looked for."""
    common = (REPOSITORY / "rules" / "common.smk").read_text(encoding="utf-8")
    assert re.search(r'^workflow\.global_resources\.setdefault\("gpu", ', common, re.MULTILINE)


def test_rules_use_no_idiom_that_was_measured_to_fail():
    text = "\n".join(path.read_text(encoding="utf-8") for path in [REPOSITORY / "Snakefile", *RULES])
    for idiom in (
        r"\bancient\(",
        r"\bservice\(",
        r"^ {4}run:",
        r"^ {4}cache:",
        # But for a page with its files in the report, which can only be a directory.
        r"(?<!report\(\n {12})\bdirectory\(",
        r"\bupdate\(",
    ):
        assert not re.search(idiom, text, re.MULTILINE), idiom


def test_the_library_does_not_name_the_workflow_manager_in_code():
    """In prose, with a capital letter, it may be named."""
    texts = [path for kind in ("py", "j2", "js", "html", "css") for path in LIBRARY.rglob(f"*.{kind}")]
    named = [path for path in texts if "snakemake" in path.read_text(encoding="utf-8")]
    assert [relative(path) for path in named] == []


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_have_no_future_imports(path):
    """Snakemake puts its own lines before a script's, and `from __future__` has to come first."""
    assert "from __future__" not in path.read_text(encoding="utf-8")


def reads_only_main(path: Path, last_line: str) -> bool:
    """Returns whether a script is a docstring, imports, one function `main`, and the line that calls it."""
    docstring, *body, call = syntax(path).body
    main = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return (
        isinstance(docstring, ast.Expr)
        and [type(node) for node in main] == [ast.FunctionDef]
        and main[0].name == "main"
        and ast.unparse(call) == last_line
    )


@pytest.mark.parametrize("name", SCRIPTED)
def test_the_script_of_a_rule_is_a_main_and_nothing_else(name):
    path = SCRIPTS / f"{name}.py"
    last = "if 'snakemake' in globals():\n    main(globals()['snakemake'])"
    # What runs a model ends at once; whatever came after the call would not run.
    assert reads_only_main(path, last) or reads_only_main(path, f"{last}\n    end_process()")
    (main,) = [node for node in syntax(path).body if isinstance(node, ast.FunctionDef)]
    assert ast.unparse(main.args) == "snakemake"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_is_a_main_and_nothing_else(name):
    calls = ("main()", "sys.exit(main())")
    assert any(
        reads_only_main(SCRIPTS / f"{name}.py", f"if __name__ == '__main__':\n    {call}") for call in calls
    )


def test_scripts_import_without_the_workflow_manager():
    names = sorted(SCRIPTED)
    program = "import sys\nsys.modules['snakemake'] = None\n" + "\n".join(
        f"import workflow_scripts.{name}" for name in names
    )
    modules_after(program)


def test_imports_are_absolute():
    for path in PYTHON:
        for node in ast.walk(syntax(path)):
            assert not (isinstance(node, ast.ImportFrom) and node.level), relative(path)


@pytest.mark.parametrize("step", ["extraction", "generation", "conditioning", "scoring"])
def test_gpu_steps_import_neither_the_schema_nor_the_sweep(step):
    """Resolved plain values reach them: an edit of the schema must not be able to change what they do."""
    script = {
        "extraction": "extract_hidden_states",
        "generation": "generate_images",
        "conditioning": "condition",
        "scoring": "measure_images",
    }
    imported = modules_after(f"import graftwork.jobs.{step}, workflow_scripts.{script[step]}")
    assert f"graftwork.jobs.{step}" in imported
    forbidden = {f"graftwork.design.{name}" for name in ("schema", "sweep", "project", "inputs", "fit")}
    assert imported & forbidden == set()


def test_gpu_steps_import_no_torch_before_they_know_that_there_is_work():
    for script in ("extract_hidden_states", "generate_images", "condition", "measure_images"):
        assert "torch" not in modules_after(f"import workflow_scripts.{script}"), script


def test_what_is_imported_while_the_workflow_is_parsed_imports_no_slow_library():
    lines = [
        line
        for path in [REPOSITORY / "Snakefile", *RULES]
        for line in re.findall(
            r"^ *(?:from|import) (?:graftwork|lab|workflow_scripts)\b.*",
            path.read_text("utf-8"),
            re.MULTILINE,
        )
    ]
    assert lines
    # `import a.b` for `from a.b import (`, whose names may stand on the lines after it.
    modules = {line.split()[1] for line in lines}
    imported = modules_after("\n".join(f"import {module}" for module in sorted(modules)))
    assert imported & SLOW_LIBRARIES == set()


def test_every_module_has_a_docstring():
    for path in PYTHON:
        if path.read_text(encoding="utf-8").strip() and path.name != "conftest.py":
            assert ast.get_docstring(syntax(path)), relative(path)


# What follows finds definitions that no production code uses. A reference is an import, a name in the same module, an
# attribute of an imported module, or a string "module:name".

Definition = tuple[str, str]  # Module, name.


class References:
    """What the code of one file refers to, by the definition at its top in which the reference stands."""

    def __init__(self, path: Path):
        self.module = module_name(path)
        self.definitions: set[str] = set()
        # Definition at the top of the file, or None for other code -> what is referred to there.
        self.by_owner: dict[str | None, set[Definition]] = {}
        self._imported: dict[str, Definition] = {}
        self._modules: dict[str, str] = {}
        tree = syntax(path)
        for node in ast.walk(tree):
            self._bind(node)
        for statement in tree.body:
            for name in self._defines(statement):
                self.definitions.add(name)
        for statement in tree.body:
            owners = self._defines(statement) or [None]
            registers = any(self._registers(d) for d in getattr(statement, "decorator_list", ()))
            for owner in [None] if registers else owners:
                self.by_owner.setdefault(owner, set()).update(self._used(statement))
            if registers:
                self.by_owner[None].update((self.module, owner) for owner in owners)

    def _bind(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._modules[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                bound = alias.asname or alias.name
                self._imported[bound] = (node.module, alias.name)
                self._modules[bound] = f"{node.module}.{alias.name}"

    def _defines(self, statement: ast.stmt) -> list[str]:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            return [statement.name]
        if isinstance(statement, ast.Assign):
            return [target.id for target in statement.targets if isinstance(target, ast.Name)]
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            return [statement.target.id]
        return []

    def _registers(self, decorator: ast.expr) -> bool:
        """Returns whether a decorator is of this project and does more than mark."""
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        root = called
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name) or root.id == "outside_digests":
            return False
        module, _ = self._imported.get(root.id, (self.module if root.id in self.definitions else "", ""))
        return module.partition(".")[0] in FOLDERS

    def _used(self, statement: ast.stmt) -> Iterator[Definition]:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name):
                yield from self._meaning(node.id)
            elif isinstance(node, ast.Attribute):
                module = self._modules.get(ast.unparse(node.value))
                if module:
                    yield module, node.attr
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                # A module that begins with a dot stands after this one's name in an f-string.
                yield from (
                    (self.module + module if module.startswith(".") else module, name)
                    for module, name in re.findall(r"(?<!\w)([a-z_0-9.]+):(\w+)\b", node.value)
                )
                # An annotation in quotes.
                yield from (use for name in re.findall(r"^\w+", node.value) for use in self._meaning(name))

    def _meaning(self, name: str) -> Iterator[Definition]:
        if name in self._imported:
            yield self._imported[name]
        elif name in self.definitions:
            yield self.module, name


def unused_definitions() -> list[str]:
    """Returns the definitions of the library and the lab that nothing reaches from scripts, rules and benchmarks."""
    files = [References(path) for path in PYTHON if path.relative_to(REPOSITORY).parts[0] != "tests"]
    by_definition = {
        (file.module, name): file.by_owner.get(name, set()) for file in files for name in file.definitions
    }
    in_rules = set(re.findall(r"\w+", "\n".join(path.read_text("utf-8") for path in RULES)))
    waiting = [use for file in files for use in file.by_owner.get(None, ())]
    waiting += [
        (module, name)
        for module, name in by_definition
        if name in in_rules
        or name in ("OUTSIDE_DIGESTS", "__all__", "FAMILY")
        or module.startswith(("workflow_scripts", "benchmarks"))
    ]
    # What `import graftwork` offers to notebooks.
    waiting += [use for file in files if file.module == "graftwork" for use in file._imported.values()]
    waiting += [("graftwork", name) for module, name in by_definition if module == "graftwork"]
    reached: set[Definition] = set()
    while waiting:
        use = waiting.pop()
        if use not in reached:
            reached.add(use)
            waiting += by_definition.get(use, ())
    return sorted(f"{module}:{name}" for module, name in set(by_definition) - reached)


def test_all_production_code_is_used():
    """What only tests call belongs to the tests."""
    unused = unused_definitions()
    assert not unused, "nothing in production uses these:\n" + "\n".join(unused)
