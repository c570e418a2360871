"""Digests of code: equal on every Python version, deaf to what code says about itself, alert to what it does."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from graftwork.core import code_digest as module
from graftwork.core.code_digest import REPOSITORY, canonical_syntax, code_digest, entry_name, used_code
from graftwork.models.families import encoder_families, encoder_family, generator_families, generator_family
from graftwork.transforms.registry import STAGES, transforms

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


def project_entries() -> list[str]:
    """Every entry point whose digest is in a key, or in the params of a rule."""
    entries = {part for family in encoder_families().values() for part in family.code}
    for family in generator_families().values():
        entries |= {*family.code(from_image=True), entry_name(family.scheduler_sigmas)}
    entries |= {
        "graftwork.conditioning.build:build_conditioning",
        "graftwork.statistics.corpus:measure_corpus",
    }
    entries |= {
        f"workflow_scripts.{name}:main"
        for name in ("tabulate", "draw_grid", "export_images", "summarize_experiment", "analyze_statistics")
    }
    for stage in STAGES:
        entries |= {entry_name(entry.function) for entry in transforms(stage).values()}
    return sorted(entries)


PROGRAM = """
import ast, json, sys
request = json.load(sys.stdin)
sys.path.insert(0, request["repository"])
from graftwork.core.code_digest import canonical_syntax, code_digest
answer = {entry: code_digest(entry) for entry in request["entries"]}
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
        "entries": project_entries(),
        "sources": SOURCES,
        "files": [str(file) for file in sorted((REPOSITORY / "graftwork").rglob("*.py"))],
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
    assert hashlib.sha256("\n".join(map(of, SOURCES)).encode()).hexdigest()[:16] == "e1fd9d77391a6e0f"


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
    """A package in a repository of its own: file name -> source."""
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    monkeypatch.setattr(module, "PACKAGES", ("package",))
    caches = (
        module._source,
        module._module,
        module._part,
        module.used_code,
        module._entry_digest,
        module._is_marked,
    )

    def write(**sources: str) -> None:
        (tmp_path / "package").mkdir(exist_ok=True)
        for file in (tmp_path / "package").glob("*.py"):
            file.unlink()
        for name, source in sources.items():
            (tmp_path / "package" / f"{name}.py").write_text(source, encoding="utf-8")
        for cache in caches:
            cache.cache_clear()

    yield write
    for cache in caches:
        cache.cache_clear()


MAIN = '''
import numpy as np
from other_library import helper as borrowed
from package import tools
from package.tools import CLASSES, Kept, halve as half, log
from package.tools import unused

LIMIT: int = 3
COUNT = 1

def run(values, kept: "Kept | None" = None, LIMIT_of=None):
    """Does it."""
    from package.more import late
    unused_name = "unused"
    log(values)
    return late(half(values), LIMIT) + tools.twice(1) + borrowed.go(np.sum(values)) + Engine().step(kept)

class Engine:
    def step(self, kept): return CLASSES["all"]
    def other(self): return recursion(1)

def recursion(n): return n and recursion(n - 1)
def apart(COUNT): return COUNT
'''
TOOLS = """
from package.code_marks import outside_digests

CLASSES = {"all": 1}
CLASSES["some"] = 2
def halve(x): return x / 2
def twice(x): return deeper(x)
def deeper(x): return 2 * x
def unused(x): return x
@outside_digests("says something")
def log(x): return quiet(x)
def quiet(x): return x
class Kept:
    size: int = 4
    def call(self): return only_by_annotation()
def only_by_annotation(): return 5
"""
MORE = "from package.quiet import write\ndef late(x, y):\n    write(x)\n    return x + y\n"
QUIET = "OUTSIDE_DIGESTS = 'writes files'\ndef write(x): return loud(x)\ndef loud(x): return x\n"
SOURCES_OF_PACKAGE = {"main": MAIN, "tools": TOOLS, "more": MORE, "quiet": QUIET}
RUN = "package.main:run"


def digests_around_edit(package, file: str, old: str, new: str) -> tuple[str, str]:
    assert SOURCES_OF_PACKAGE[file].count(old) == 1
    package(**SOURCES_OF_PACKAGE)
    before = code_digest(RUN)
    package(**{**SOURCES_OF_PACKAGE, file: SOURCES_OF_PACKAGE[file].replace(old, new)})
    return before, code_digest(RUN)


def test_everything_that_code_uses_is_followed(package):
    package(**SOURCES_OF_PACKAGE)
    assert set(used_code(RUN)) == {
        f"package.{name}"
        for name in (
            *("main:run", "main:LIMIT", "main:Engine", "main:recursion", "more:late"),
            *("tools:halve", "tools:twice", "tools:deeper", "tools:CLASSES", "tools:Kept"),
            "tools:only_by_annotation",
        )
    }
    assert list(used_code("package.main:apart")) == ["package.main:apart"]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("main", "LIMIT: int = 3", "LIMIT: int = 4"),
        ("main", "recursion(n - 1)", "recursion(n - 2)"),
        ("main", "LIMIT) + tools.twice", "COUNT) + tools.twice"),
        ("main", "tools.twice(1)", "tools.deeper(1)"),
        ("main", "np.sum(values)", "np.mean(values)"),
        ("main", "import numpy as np", "import cupy as np"),
        ("main", "from other_library import", "from another_library import"),
        ("main", "halve as half", "unused as half"),
        ("main", 'kept: "Kept | None"', "kept"),
        ("tools", "x / 2", "x / 3"),
        ("tools", "return 2 * x", "return 3 * x"),
        ("tools", '{"all": 1}', '{"all": 2}'),
        ("tools", "size: int = 4", "size: int = 5"),
        ("tools", "return 5", "return 6"),
        ("more", "x + y", "x - y"),
    ],
)
def test_an_edit_of_what_is_used_changes_the_digest(package, file, old, new):
    before, after = digests_around_edit(package, file, old, new)
    assert before != after


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("main", '"""Does it."""', '"""Does it well."""'),
        ("main", "COUNT = 1", "COUNT = 2"),
        ("main", "return COUNT", "return -COUNT"),
        ("tools", "def unused(x): return x", "def unused(x): return -x"),
        ("tools", "return quiet(x)", "return -quiet(x)"),
        ("tools", "def quiet(x): return x", "def quiet(x): return -x"),
        ("tools", '"says something"', '"says something else"'),
        ("quiet", "return x", "return -x"),
        ("quiet", "return loud(x)", "return -loud(x)"),
        ("main", "    from package.more import late\n", "    from package.more import late  # late\n"),
    ],
)
def test_an_edit_of_anything_else_does_not(package, file, old, new):
    before, after = digests_around_edit(package, file, old, new)
    assert before == after


# (source of a module with `run`, a definition in it, and whether `run` uses it)
SCOPES = [
    # Defaults and decorators belong to the scope around a function, whatever its body binds.
    ("def run(x=LIMIT):\n    LIMIT = 1\n    return x", True),
    ("def run(x):\n    return (lambda y=LIMIT: y)()", True),
    ("def run(x, key=lambda LIMIT: LIMIT):\n    return x + LIMIT", True),
    ("def run(x, key=lambda LIMIT: LIMIT):\n    return x", False),
    ("def run(x):\n    @LIMIT\n    def inner(): return 1\n    LIMIT = inner\n    return inner", False),
    # Variables of comprehensions and lambdas end with them, those of `:=` do not.
    ("def run(xs):\n    a = [LIMIT for LIMIT in xs]\n    return LIMIT", True),
    ("def run(xs):\n    return [LIMIT for LIMIT in xs]", False),
    ("def run(xs):\n    return [LIMIT for LIMIT in LIMIT]", True),
    ("def run(xs):\n    a = [(LIMIT := x) for x in xs]\n    return LIMIT", False),
    ("def run(xs):\n    return {LIMIT: y for x in xs for LIMIT, y in x if LIMIT}", False),
    ("def run(xs):\n    return list(map(lambda LIMIT: LIMIT, xs))", False),
    # Everything that binds a variable of a function.
    ("def run(*LIMIT): return LIMIT", False),
    ("def run(x, /, *, LIMIT=1): return LIMIT", False),
    ("def run(x):\n    for LIMIT, y in x: pass\n    return LIMIT", False),
    ("def run(x):\n    with x as (LIMIT, y): return LIMIT", False),
    ("def run(x):\n    try: pass\n    except E as LIMIT: return LIMIT", False),
    ("def run(x):\n    match x:\n        case {'a': LIMIT}: return LIMIT", False),
    ("def run(x):\n    match x:\n        case [1, *LIMIT]: return LIMIT", False),
    ("def run(x):\n    match x:\n        case {'a': 1, **LIMIT}: return LIMIT", False),
    ("def run(x):\n    match x:\n        case A.B as LIMIT: return LIMIT", False),
    ("import a as A\ndef run(x):\n    match x:\n        case A.LIMIT: return 1", False),
    ("def run(x):\n    def LIMIT(): return 1\n    return LIMIT()", False),
    ("def run(x):\n    class LIMIT: pass\n    return LIMIT()", False),
    ("def run(x):\n    global LIMIT\n    LIMIT = x\n    return LIMIT", True),
    (
        "def run(x):\n    LIMIT = x\n    def inner():\n        global LIMIT\n        return LIMIT\n    return inner",
        True,
    ),
    ("def run(LIMIT):\n    def inner():\n        nonlocal LIMIT\n        LIMIT = 1\n    return LIMIT", False),
    ("def run(x):\n    y: LIMIT\n    return x", False),
    ("def run(x):\n    return f'{x:{LIMIT}}'", True),
    ("async def run(xs):\n    return [x async for x in xs if x > LIMIT]", True),
    # The body of a class is no scope for its methods.
    ("class run:\n    LIMIT = 1\n    def f(self): return LIMIT", True),
    ("class run:\n    def f(self): return 1\n    g = [x for x in LIMIT]", True),
    ("class run(LIMIT): pass", True),
    ("class run(metaclass=LIMIT): pass", True),
    ("class run:\n    size: int = LIMIT", True),
    ("@LIMIT\ndef run(): return 1", True),
    ("class run:\n    @LIMIT\n    def f(self): return 1", True),
    # Statements at the top of a module.
    ("A, (B, *C) = LIMIT\ndef run(): return C", True),
    ("A = (B := LIMIT)\ndef run(): return B", True),
    ("with open(LIMIT) as f: A = f\ndef run(): return A", True),
    ("A = {}\nfor x in LIMIT: A[x] = 1\ndef run(): return A", True),
    ("A = {}\nA['x'].y[0] = LIMIT\ndef run(): return A", True),
    ("A = 1\nA += LIMIT\ndef run(): return A", True),
    ("A = []\nA.append(LIMIT)\ndef run(): return A", True),
    ("A = None\ndef fill():\n    global A\n    A = LIMIT\ndef run(): return A", True),
    ("A = []\nB = []\nB.append(LIMIT)\ndef run(): return A", False),
    ("if LIMIT:\n    A = 1\nelse:\n    A = 2\ndef run(): return A", True),
    ("if x:\n    def run(): return 1\nelif LIMIT:\n    def run(): return 2", True),
    ("match LIMIT:\n    case 1: A = 1\n    case _: A = 2\ndef run(): return A", True),
    ("import a\na.b = LIMIT\ndef run(): return a.c", False),
    ("A = 1\ndel LIMIT_\ndef run(): return A", False),
]


@pytest.mark.parametrize(("source", "is_used"), SCOPES)
def test_names_have_the_scope_that_they_have_in_python(package, source, is_used):
    digests = []
    for limit in (3, 4):
        package(main=f"LIMIT = {limit}\n{source}\n")
        digests.append(code_digest(RUN))
    assert (digests[0] != digests[1]) is is_used


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        # One of two imports holds, which of them is known at run time only.
        (
            "try:\n    from package.a import f\nexcept E:\n    from package.b import f\ndef run(): return f()",
            "x",
            "y",
        ),
        ("try:\n    from package.a import f\nexcept E:\n    f = None\ndef run(): return f()", "a", "b"),
        (
            "def run():\n    try:\n        from package.a import f\n    except E:\n        f = None\n    return f()",
            "a",
            "b",
        ),
        ("try:\n    from other import f\nexcept E:\n    f = None\ndef run(): return f()", "other", "another"),
        ("try:\n    A = 1\nexcept E:\n    A = 2\nfinally:\n    A = 3\ndef run(): return A", "2", "4"),
        # Decorators that do something, and what they are given.
        ("from functools import lru_cache\n@lru_cache(maxsize=1)\ndef run(): return 1", "1)", "2)"),
        ("import torch\n@torch.no_grad()\ndef run(): return 1", "@torch.no_grad()\n", ""),
        ("class run:\n    @property\n    def f(self): return 1", "@property", "@staticmethod"),
        ("def repeat(n): return lambda f: f\n@repeat(2)\ndef run(): return 1", "@repeat(2)", "@repeat(3)"),
        # The fields of a dataclass, in their order.
        ("class run:\n    a: int\n    b: int", "a: int\n    b: int", "b: int\n    a: int"),
        ("class run:\n    a: int\n    b: int", "    b: int", ""),
        ("class run:\n    a: int = 1", "a: int = 1", "a = 1"),
        # Classes in annotations, by module and by alias.
        ("from package import a\ndef run(x: a.K): return x.go()", "a.K", "a.L"),
        ("from package import a\ndef run(x: 'list[a.K]'): return x", "a.K", "a.L"),
        ("from package.a import K, L\nX = K | None\ndef run(x: X): return x.go()", "K |", "L |"),
        ("def run(x):\n    from package.a import K, L\n    y: K = x\n    return y.go()", "y: K", "y: L"),
        ("from package.a import K, L\nX = 'list[X] | K'\ndef run(x: X): return x.go()", "| K", "| L"),
        # A module in a package, however it is imported.
        ("import package.a\ndef run(): return package.a.f()", "a.f()", "a.K()"),
        ("import package.a as m\ndef run(): return m.f()", "import package.a", "import package.b"),
        ("from package import a as m\ndef run(): return m.f()", "import a", "import b"),
    ],
)
def test_an_edit_of_what_python_may_run_changes_the_digest(package, source, old, new):
    one = "class K:\n    def go(self): return 1\nclass L:\n    def go(self): return 2\ndef f(): return 1\n"
    two = one.replace("f(): return 1", "f(): return 'x'")
    edited = {"a": one, "b": two.replace(old, new) if old == "x" else two}
    package(main=source, a=one, b=two)
    before = code_digest(RUN)
    assert old in source + two
    package(main=source.replace(old, new, 1) if old != "x" else source, **edited)
    assert code_digest(RUN) != before


@pytest.mark.parametrize(
    "source",
    [
        "from package.tools import *\ndef run(): return 1",
        "from other import *\ndef run(): return 1",
        "from . import tools\ndef run(): return 1",
        "from .tools import halve\ndef run(): return 1",
        "def run():\n    from .tools import halve\n    return halve(1)",
    ],
)
def test_an_import_that_does_not_say_what_it_binds_is_refused(package, source):
    package(main=source, tools="def halve(x): return x / 2\n")
    with pytest.raises(ValueError, match=r"cannot follow `from .* import .*`"):
        code_digest(RUN)


def test_a_registering_decorator_of_another_module_does_not_count(package):
    marked = "@outside_digests('registers')\ndef register(name): return lambda f: f\n"
    main = "from package import registry\n@registry.register('{}')\ndef run(): return 1\n"
    package(main=main.format("a"), registry=marked)
    before = code_digest(RUN)
    assert list(used_code(RUN)) == [RUN]
    package(main=main.format("b"), registry=marked)
    assert code_digest(RUN) == before


def test_an_entry_that_is_marked_is_refused(package):
    """Its digest would be that of no code at all."""
    package(main="@outside_digests('says something')\ndef run(): return 1\n")
    with pytest.raises(ValueError, match=r"package\.main:run .* marked as outside all digests"):
        code_digest(RUN)


def test_neither_the_process_nor_the_time_of_files_changes_a_digest(tmp_path):
    entries = project_entries()[:5]
    program = "import sys, json\nfrom graftwork.core.code_digest import code_digest\nprint(code_digest(*sys.argv[1:]))"
    copy = tmp_path / "copy"
    for folder in ("graftwork", "workflow_scripts", "lab"):
        shutil.copytree(REPOSITORY / folder, copy / folder, copy_function=shutil.copyfile)
    digests = {
        subprocess.run(
            [sys.executable, "-B", "-c", program, *entries],
            cwd=place,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(place), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for place, seed in ((REPOSITORY, "1"), (copy, "2"))
    }
    assert len(digests) == 1


def test_a_move_to_another_module_changes_nothing(package):
    package(**SOURCES_OF_PACKAGE)
    before = code_digest(RUN)
    moved = "def deeper(x): return 2 * x\n"
    assert moved in TOOLS
    tools = "from package.elsewhere import deeper\n" + TOOLS.replace(moved, "")
    package(**{**SOURCES_OF_PACKAGE, "tools": tools, "elsewhere": moved})
    assert "package.elsewhere:deeper" in used_code(RUN)
    assert code_digest(RUN) == before


def test_which_of_two_equal_names_is_meant_counts(package):
    one, two = "def f(x): return x\n", "def f(x): return -x\n"
    main = "from package.{} import f as first\nfrom package.{} import f as second\ndef run(): return first(second(1))\n"
    package(one=one, two=two, main=main.format("one", "two"))
    before = code_digest(RUN)
    package(one=one, two=two, main=main.format("two", "one"))
    assert code_digest(RUN) != before


def test_the_order_of_entries_and_repetitions_do_not_count(package):
    package(main="def f(): return 1\ndef g(): return 2\n")
    f, g = "package.main:f", "package.main:g"
    assert code_digest(f, g) == code_digest(g, f, f)
    assert len({code_digest(*entries) for entries in ([f], [g], [f, g], [])}) == 4


def test_equal_functions_of_different_names_differ(package):
    package(main="def f(): return 1\ndef g(): return 1\n")
    assert code_digest("package.main:f") != code_digest("package.main:g")


@pytest.mark.parametrize("entry", ["package.main:h", "package.other:f", "package.main:A.m"])
def test_an_entry_that_does_not_exist_is_named(package, entry):
    package(main="class A:\n    def m(self): return 3\n")
    with pytest.raises(ValueError, match=entry.replace(".", r"\.")):
        code_digest(entry)


def test_a_module_that_is_passed_on_is_refused(package):
    package(
        main="from package import tools\ndef run(): return use(tools)\ndef use(x): return x\n",
        tools="X = 1\n",
    )
    with pytest.raises(ValueError, match=r"module package\.tools is used as a value"):
        code_digest(RUN)


def test_the_projects_entries_differ():
    assert len({code_digest(entry) for entry in project_entries()}) == len(project_entries())


def test_keys_cover_the_numerics_and_no_files_or_logs():
    """A few parts, by name, that are reached through a class, a default, another module and an annotation."""
    encoder = used_code(encoder_family("qwen3_vl").encoder)
    assert {
        "graftwork.models.tokens:assign_roles",
        "graftwork.models.transformers_encoder:load_weights",
        "graftwork.models.transformers_encoder:TransformersEncoder",
    } <= set(encoder)
    sampling = used_code(generator_family("z_image").generator)
    assert {
        "graftwork.models.generator:Launched",
        "graftwork.models.generator:initial_noise",
        "graftwork.models.generators.z_image:scheduler_sigmas",
        "graftwork.models.generators.z_image.blocks:FusedAttention",
        "graftwork.models.generators.z_image:padded_length",
    } <= set(sampling)
    conditioning = used_code("graftwork.conditioning.build:build_conditioning")
    assert "graftwork.conditioning.visibility:CaptionNorm" in conditioning
    assert not [part for part in conditioning if part.startswith("graftwork.transforms.registry")]
    for parts in (encoder, sampling, conditioning):
        assert not [part for part in parts if part.startswith(("graftwork.reports", "graftwork.core.png"))]


@pytest.fixture
def other_tree(tmp_path, monkeypatch):
    """A copy of the project, with nothing known of it."""
    for package in module.PACKAGES:
        shutil.copytree(
            REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    module.forget_code()
    yield tmp_path
    module.forget_code()


def known_entry() -> str:
    return entry_name(next(iter(transforms("blend").values())).function)


def test_kept_digests_are_those_that_are_computed(other_tree, tmp_path, monkeypatch):
    file, entry = tmp_path / "code.json", known_entry()
    computed = code_digest(entry)
    module.keep_digests(file)
    module.forget_code()
    module.read_kept_digests(file)
    with monkeypatch.context() as patch:
        patch.setattr(module, "used_code", None)  # Nothing is followed.
        assert code_digest(entry) == computed


@pytest.mark.parametrize("change", ["edit", "new file", "kept value", "half a file"])
def test_kept_digests_of_other_source_are_not_used(other_tree, tmp_path, change):
    file, entry = tmp_path / "code.json", known_entry()
    before = code_digest(entry)
    module.keep_digests(file)
    blending = other_tree / "graftwork/transforms/blending.py"
    if change == "edit":
        # As long as it was, with its old time.
        text, times = blending.read_text(), os.stat(blending)
        blending.write_text(text.replace("alpha", "alpho"))
        os.utime(blending, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "new file":
        (other_tree / "graftwork/transforms/another.py").write_text("x = 1\n")
    elif change == "kept value":
        file.write_text(file.read_text().replace(module._entry_digest(entry), "0" * 64))
    else:
        file.write_text(file.read_text()[:40])
    module.forget_code()
    module.read_kept_digests(file)
    assert module._kept == {}
    assert (code_digest(entry) == before) == (change != "edit")
