"""The shape of the repository: what is where, how long it is, and what may import what."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "workflow_scripts"
LIBRARY = SCRIPTS / "lib"
RULES = sorted((REPOSITORY / "rules").glob("*.smk"))
PYTHON = sorted(
    path for folder in ("workflow_scripts", "tests") for path in (REPOSITORY / folder).rglob("*.py")
)
# Scripts that are run by people and by the Makefile, not by a rule.
COMMANDS = {"describe_config", "draw_scene", "ship_miniature"}


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


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def modules_after(program: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules, sep='\\n')"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_the_snakefile_is_short():
    assert lines(REPOSITORY / "Snakefile") <= 60


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_are_thin(path):
    assert lines(path) <= 40


def test_files_are_of_a_length_that_can_be_read():
    long = {relative(path): lines(path) for path in [*PYTHON, *RULES] if lines(path) >= 400}
    assert {path: count for path, count in long.items() if not path.startswith("tests/")} == {}
    assert {path: count for path, count in long.items() if count >= 700} == {}


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
    assert benchmark, f"rule {name} has no benchmark"
    assert benchmark[1] == f"logs/benchmarks/{log}.tsv"
    resources = re.search(r"^ {4}resources:\n((?: {8}.*\n)+)", body, re.MULTILINE)
    assert resources, f"rule {name} has no resources"
    for resource in ("mem_mb", "runtime"):
        assert re.search(rf"^ {{8}}{resource}=\d+,$", resources[1], re.MULTILINE), (name, resource)


@pytest.mark.parametrize("name", ["extract_hidden_states", "generate_images", "accept"])
def test_rules_that_run_models_take_a_gpu(name):
    assert re.search(r"^ {4}resources:\n(?: {8}.*\n)* {8}gpu=1,$", SCRIPTED[name], re.MULTILINE)


def test_no_other_rule_takes_a_gpu():
    with_gpu = {name for name, body in rules().items() if re.search(r"^ +gpu=", body, re.MULTILINE)}
    assert with_gpu == {"extract_hidden_states", "generate_images", "accept", "train_miniature_stage"}


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
        r"\bdirectory\(",
        r"\bupdate\(",
    ):
        assert not re.search(idiom, text, re.MULTILINE), idiom


def test_the_library_does_not_know_the_workflow_manager():
    named = [
        relative(path)
        for path in LIBRARY.rglob("*.py")
        if "snakemake" in path.read_text(encoding="utf-8").lower()
    ]
    # In prose, with a capital letter, it may be named.
    assert [path for path in named if "snakemake" in (REPOSITORY / path).read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_have_no_future_imports(path):
    """Snakemake puts its own lines before a script's, and `from __future__` has to come first."""
    assert "from __future__" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_script_has_one_shape(name):
    tree = ast.parse((SCRIPTS / f"{name}.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert functions == ["main"]
    assert ast.unparse(tree.body[-1]) == "if 'snakemake' in globals():\n    main(globals()['snakemake'])"


def test_scripts_import_without_the_workflow_manager():
    names = sorted(SCRIPTED)
    program = "import sys\nsys.modules['snakemake'] = None\n" + "\n".join(
        f"import workflow_scripts.{name}" for name in names
    )
    modules_after(program)


def test_imports_are_absolute():
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), relative(path)


@pytest.mark.parametrize("step", ["extraction", "generation", "conditioning"])
def test_gpu_steps_import_neither_the_schema_nor_the_sweep(step):
    """Resolved plain values reach them: an edit of the schema must not be able to change what they do."""
    script = {
        "extraction": "extract_hidden_states",
        "generation": "generate_images",
        "conditioning": "condition",
    }
    imported = modules_after(f"import workflow_scripts.lib.jobs.{step}, workflow_scripts.{script[step]}")
    design = {name for name in imported if name.startswith("workflow_scripts.lib.design.")}
    forbidden = {
        f"workflow_scripts.lib.design.{name}" for name in ("schema", "sweep", "project", "inputs", "fit")
    }
    assert design & forbidden == set()


def test_gpu_steps_import_no_torch_before_they_know_that_there_is_work():
    for script in ("extract_hidden_states", "generate_images", "condition"):
        assert "torch" not in modules_after(f"import workflow_scripts.{script}"), script


def test_what_is_imported_while_the_workflow_is_parsed_imports_no_model_library():
    imported = modules_after("import graftwork.planning.scopes, graftwork.planning.outputs")
    assert imported & {"torch", "transformers", "diffusers", "h5py", "pandas", "matplotlib"} == set()


def test_conditioning_and_models_do_not_depend_on_planning_or_presentation():
    for folder, forbidden in {
        "store": ("design", "conditioning", "models", "planning", "presentation", "jobs"),
        "models": ("conditioning", "planning", "presentation", "jobs"),
        "conditioning": ("planning", "presentation", "jobs"),
        "presentation": ("planning", "jobs", "models", "scoring"),
        "scoring": ("planning", "jobs"),
    }.items():
        for path in (LIBRARY / folder).glob("*.py"):
            text = path.read_text(encoding="utf-8")
            for other in forbidden:
                assert f"workflow_scripts.lib.{other}." not in text, f"{relative(path)} imports lib.{other}"


def test_every_module_has_a_docstring():
    for path in PYTHON:
        text = path.read_text(encoding="utf-8")
        if text.strip() and path.name != "conftest.py" and SCRIPTS in path.parents:
            assert ast.get_docstring(ast.parse(text)), relative(path)
