"""Digests of code: equal on every Python version, deaf to what code says about itself, alert to what it does."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from workflow_scripts.lib.conditioning.registry import STAGES, transforms
from workflow_scripts.lib.design import code_digest as module
from workflow_scripts.lib.design.code_digest import REPOSITORY, canonical_syntax, code_digest
from workflow_scripts.lib.planning.code_lists import CONDITIONING_CODE, EXTRACTION_CODE, SAMPLING_CODE

FUNCTION = '''
@register("blend", "x", formula="a v + (1 - a) t")
def mix(text: "Tensor", source, alpha: float = 0.5, *, own: bool = False) -> "Tensor":
    """Mixes."""
    # A comment.
    rows = min(text.shape[0], source.shape[0])
    name = f"{alpha:.2f} of {rows!r:>{4}} rows"
    if own and rows > 1:
        return source
    return alpha * source[:rows] + (1.0 - alpha) * text[:rows]
'''

# Syntax that versions parse into different trees or write differently; every line is valid from 3.11 on.
SHAPES = r"""
f"{x!r:>{w}}"
f"{x:{y}{z}}"
f"{x:{{}}}"
f"{x:}"
f""
f"{{}}"
f"a{{b}}c{x}{{"
f"{x}" "b" f"c"
"a" f"b"
f"{x = !s:>5}"
f"{x:%Y-%m-%d}"
f"{x:\x41}"
rf"{x:\d}\d"
u"a"
"\u0cf3\U0001fae8\x00\u2212"
"ೳ🫨 é"
b"\xff"
[*a, *b]
{**a, "b": 1}
x[*a]
x[a:b, ...]
lambda *, a=1, **k: a
(y := 3)
1e400
1_000 + 0x10 + 1j
[x async for x in y if z]
""".strip().split("\n")
STATEMENTS = [
    "def f(a, /, b, *, c=1, **d):\n    return None",
    "async def f():\n    async with a as b, c:\n        pass",
    "class A(B, metaclass=C):\n    x: int\n    y: int = 3\n    def f(self): yield from x",
    "match x:\n    case {'a': 1, **r}: pass\n    case A(b=1) | [1, *_]: pass\n    case _: pass",
    "try:\n    pass\nexcept* E as e:\n    pass\nfinally:\n    pass",
    "with (a as b, c):\n    pass",
    "from . import a as b",
    "async def f():\n    return [x async for x in y if z]",
]
SOURCES = [FUNCTION, *(f"value = {line}" for line in SHAPES[:-1]), *STATEMENTS]


def of(source: str) -> str:
    return canonical_syntax(ast.parse(source))


def interpreters() -> dict[str, str]:
    """Version -> path, of the other interpreters found on this machine."""
    found = {}
    places = [shutil.which(f"python3.{minor}") for minor in (11, 12, 13, 14)]
    places += sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"), reverse=True)
    for path in filter(None, places):
        run = subprocess.run(
            [path, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True
        )
        version = tuple(map(int, run.stdout.split())) if run.returncode == 0 else ()
        if version >= (3, 11):
            found.setdefault(".".join(map(str, version)), str(path))
    return found


OTHERS = interpreters()
NEWER = {version: path for version, path in OTHERS.items() if version != "3.11"}


def project_parts() -> list[str]:
    lists = [*EXTRACTION_CODE.values(), *SAMPLING_CODE.values(), CONDITIONING_CODE]
    parts = {part for parts in lists for part in parts}
    for stage in STAGES:
        for entry in transforms(stage).values():
            parts |= {f"{entry.function.__module__}:{entry.function.__name__}", *entry.relies_on}
    return sorted(parts)


PROGRAM = """
import ast, json, sys
request = json.load(sys.stdin)
sys.path.insert(0, request["repository"])
from workflow_scripts.lib.design.code_digest import canonical_syntax, code_digest
answer = {part: code_digest([part]) for part in request["parts"]}
answer["sources"] = [canonical_syntax(ast.parse(source)) for source in request["sources"]]
# What a version of Python writes into its own syntax must not matter for any file of the project.
answer["files"] = {
    file: canonical_syntax(ast.parse(open(file, encoding="utf-8").read())) for file in request["files"]
}
json.dump(answer, sys.stdout)
"""


def ask(python: str) -> dict:
    request = {
        "repository": str(REPOSITORY),
        "parts": project_parts(),
        "sources": SOURCES,
        "files": [str(file) for file in sorted((REPOSITORY / "workflow_scripts").rglob("*.py"))],
    }
    run = subprocess.run(
        [python, "-W", "ignore", "-B", "-c", PROGRAM],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def own_answer() -> dict:
    import sys

    return ask(sys.executable)


@pytest.mark.skipif(not NEWER, reason="no Python newer than 3.11 on this machine")
@pytest.mark.parametrize("version", sorted(OTHERS))
def test_other_versions_of_python_give_the_same_digests(version, own_answer):
    answer = ask(OTHERS[version])
    for index, source in enumerate(SOURCES):
        assert answer["sources"][index] == own_answer["sources"][index], source
    assert answer == own_answer


def test_golden_digests():
    """For machines with one Python only: what 3.11, 3.12 and 3.13 agreed on."""
    assert hashlib.sha256(of(FUNCTION).encode()).hexdigest()[:16] == "a50e24a4f02fbfc2"
    assert hashlib.sha256("\n".join(map(of, SOURCES)).encode()).hexdigest()[:16] == "37e2746ca201a32a"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# A comment.", "# Another."),
        ("    # A comment.\n", ""),
        ('"""Mixes."""', '"""Mixes, and says more.\n\n    Over several lines.\n    """'),
        ('    """Mixes."""\n', ""),
        (': "Tensor", source', ", source: torch.Tensor"),
        (' -> "Tensor"', ""),
        (": float = 0.5", ": Annotated[float, Field(ge=0)] = 0.5"),
        ('@register("blend", "x", formula="a v + (1 - a) t")', '@register("blend", "x", formula="other")'),
        ('@register("blend", "x", formula="a v + (1 - a) t")\n', ""),
        ("rows = min(", "rows: int = min("),
        ("    rows = min", "    rows: int\n    rows = min"),
        ("(1.0 - alpha) * text[:rows]", "((1.0 - alpha) * (text[:rows]))"),
        (
            "min(text.shape[0], source.shape[0])",
            "min(\n        text.shape[0],\n        source.shape[0],\n    )",
        ),
        ('f"{alpha:.2f} of {rows!r:>{4}} rows"', "f'{alpha:.2f} of ' f'{rows!r:>{4}} rows'"),
        ("1.0", "1.00"),
        ("\n    if", "\n\n\n    if"),
    ],
)
def test_what_code_says_about_itself_changes_nothing(old, new):
    assert FUNCTION.count(old) == 1
    assert of(FUNCTION.replace(old, new)) == of(FUNCTION)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(1.0 - alpha)", "(1.0 + alpha)"),
        ("1.0", "1"),
        ("1.0", "2.0"),
        ("= 0.5", "= 0.25"),
        ("own: bool = False", "own: bool = True"),
        ("alpha: float = 0.5", "alpha: float"),
        ("*, own", "own"),
        (":.2f", ":.3f"),
        ("!r", "!s"),
        ("{4}", "{5}"),
        (' rows"', ' Rows"'),
        ("and rows", "or rows"),
        ("rows > 1", "rows >= 1"),
        ("source[:rows]", "source[:rows:2]"),
        ("source[:rows]", "source[rows:]"),
        ("        return source\n", "        return text\n"),
        ("    if own", "    rows -= 1\n    if own"),
        ("    if own", "    while own"),
        ("min(text.shape[0], source.shape[0])", "min(source.shape[0], text.shape[0])"),
        ("min(text.shape[0], source.shape[0])", "min(text.shape[0], source.shape[0], key=None)"),
        ("    return alpha * source", "    return -alpha * source"),
        ("def mix", "def blend"),
        ("def mix", "async def mix"),
        ("    # A comment.", "    'not a docstring'"),
    ],
)
def test_what_code_does_changes_its_digest(old, new):
    assert old in FUNCTION
    assert of(FUNCTION.replace(old, new)) != of(FUNCTION)


def test_constants_of_different_types_differ():
    texts = [of(f"x = {constant}") for constant in ("1", "1.0", "True", "'1'", "b'1'", "None", "...", "1j")]
    assert len(set(texts)) == len(texts)
    assert of("def f(): return") != of("def f(): return None") != of("def f(): pass")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of one module in a repository of its own."""
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    caches = (module._parse, module._part_digest)

    def write(source: str) -> None:
        (tmp_path / "package").mkdir(exist_ok=True)
        (tmp_path / "package" / "module.py").write_text(source, encoding="utf-8")
        for cache in caches:
            cache.cache_clear()

    yield write
    for cache in caches:
        cache.cache_clear()


def test_a_part_counts_alone(package):
    source = "LIMIT = 3\ndef f(): return 1\ndef g(): return 2\nclass A:\n    def m(self): return 3\n    size: int = 4\n"
    parts = ["package.module:f", "package.module:LIMIT", "package.module:A.m", "package.module:A.size"]
    package(source)
    before = {part: code_digest([part]) for part in [*parts, "package.module"]}
    changed = {}
    for old, new in (("return 1", "return 9"), ("= 3", "= 9"), ("return 3", "return 9"), ("= 4", "= 9")):
        package(source.replace(old, new, 1))
        changed[old] = {part for part, value in before.items() if code_digest([part]) != value}
    assert changed == {
        "return 1": {"package.module:f", "package.module"},
        "= 3": {"package.module:LIMIT", "package.module"},
        "return 3": {"package.module:A.m", "package.module"},
        "= 4": {"package.module:A.size", "package.module"},
    }
    package(source.replace("return 2", "return 9"))
    assert {part for part, value in before.items() if code_digest([part]) != value} == {"package.module"}


def test_order_and_repetition_of_parts_do_not_count(package):
    package("def f(): return 1\ndef g(): return 2\n")
    f, g = "package.module:f", "package.module:g"
    assert code_digest([f, g]) == code_digest([g, f, f])
    assert len({code_digest(parts) for parts in ([f], [g], [f, g], [])}) == 4


def test_equal_functions_of_different_names_are_different_parts(package):
    package("def f(): return 1\ndef g(): return 1\n")
    assert code_digest(["package.module:f"]) != code_digest(["package.module:g"])


@pytest.mark.parametrize(
    "part", ["package.module:h", "package.module:A.n", "package.other", "package.other:f"]
)
def test_a_part_that_does_not_exist_is_named(package, part):
    package("class A:\n    def m(self): return 3\n")
    with pytest.raises(ValueError, match=part.partition(":")[0].replace(".", r"\.")):
        code_digest([part])


def test_every_listed_part_of_the_project_exists():
    assert len({code_digest([part]) for part in project_parts()}) == len(project_parts())
