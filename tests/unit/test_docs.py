"""What the pages say is true of the repository: links, paths, commands and examples."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from graftwork.core.code_digest import REPOSITORY
from graftwork.design.analyses import Analysis
from graftwork.design.project import Project
from graftwork.design.settings import Models, Settings
from graftwork.scenes.captions import parse_caption
from graftwork.scenes.world import render_scene

PAGES = [
    REPOSITORY / name
    for name in (
        "README.md",
        "config/README.md",
        "config/references/README.md",
        "docs/guide.md",
        "docs/reference.md",
        "docs/architecture.md",
        "docs/cluster.md",
        "docs/maps.md",
        "benchmarks/RESULTS.md",
        "resources/miniature/README.md",
        "resources/references/LICENSE.md",
    )
]
# Written by jobs beside their declared outputs, or by the user.
UNDECLARED = (
    r"results/store/\w+/?",
    r"results/\.devices/",
    r"config/ratings/",
    r"config/experiments/vision\.yaml",
    r"data/\w+\.npz",
)
TOP = sorted(path.name for path in REPOSITORY.iterdir() if path.is_dir() and not path.name.startswith("."))
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())


def blocks(page: Path, language: str) -> list[str]:
    """Returns the fenced blocks of a language, without their common indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub gives the headings of a page."""
    without_code = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rules() -> str:
    return "\n".join(file.read_text() for file in [REPOSITORY / "Snakefile", *REPOSITORY.glob("rules/*.smk")])


def rule_names() -> set[str]:
    return set(re.findall(r"^(?:rule|checkpoint) (\w+):$", rules(), re.MULTILINE))


def is_made_by_a_rule(path: str) -> bool:
    """Whether a path, perhaps with wildcards or `*` in it, is declared by a rule or is a folder of what is."""
    parts = [re.sub(r"\{\w+\}|\*", "x", part) for part in path.rstrip("/").split("/")]
    for declared in re.findall(r'"((?:results|logs)/[^"]+)"', rules()):
        known = [
            re.sub(r"\\\{\w+(,.*?)?\\\}", "[^/]+", re.escape(part))
            for part in declared.split("/")[: len(parts)]
        ]
        if len(known) == len(parts) and all(map(re.fullmatch, known, parts)):
            return True
    return False


def exists(path: str) -> bool:
    if any(re.fullmatch(pattern, path) for pattern in UNDECLARED):
        return True
    if path.split("/")[0] in ("results", "logs"):
        return (path.count("/") == 1 and path.endswith("/")) or is_made_by_a_rule(path)
    return any(REPOSITORY.glob(path.rstrip("/")))


@by_page
def test_relative_links_and_anchors_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?://|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@by_page
def test_paths_exist(page):
    named = re.findall(
        rf"(?<![\w./-])((?:{'|'.join([*TOP, 'results', 'logs'])})/[\w./{{}}*-]*[\w/}}*])", page.read_text()
    )
    assert [path for path in dict.fromkeys(named) if not exists(path)] == []


@by_page
def test_commands_exist(page):
    text = page.read_text()
    spans = re.findall(r"`([^`\n]+)`", text)
    lines = [line[2:].partition(" #")[0] for block in blocks(page, "console") for line in block.split("\n")]
    makefile = (REPOSITORY / "Makefile").read_text()
    models = yaml.safe_load((REPOSITORY / "config/models.yaml").read_text())
    commits = {
        (entry.get("repo"), entry.get("revision")) for kind in models.values() for entry in kind.values()
    }
    for command, *arguments in filter(None, (line.split() for line in [*lines, *spans])):
        targets = [
            word for word in arguments if not word.startswith("-") and "=" not in word and word != "TARGET"
        ]
        if command == "make":
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), arguments
        elif command == "snakemake" and "--workflow-profile" in arguments:
            assert (REPOSITORY / "profiles" / arguments[-1] / "config.yaml").is_file()
        elif command == "snakemake" and "--configfile" not in arguments:
            assert all(target in rule_names() or is_made_by_a_rule(target) for target in targets), arguments
        elif command == "python" and "-m" in arguments:
            assert (REPOSITORY / (targets[0].replace(".", "/") + ".py")).is_file(), arguments
        elif command == "python" and targets:
            assert (REPOSITORY / targets[0]).is_file(), arguments
        elif command == "hf":
            assert (targets[1], targets[2]) in commits, arguments


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A working directory with the shipped configuration, to which examples are added."""
    root = tmp_path_factory.mktemp("examples")
    shutil.copytree(REPOSITORY / "config", root / "config")
    (root / "resources").symlink_to(REPOSITORY / "resources")
    return root


EXAMPLES = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in (REPOSITORY / "README.md", REPOSITORY / "docs/guide.md")
    for number, text in enumerate(blocks(page, "yaml"))
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_are_accepted(text, root, monkeypatch):
    example = yaml.safe_load(text)
    if "hardware" in example:
        Settings.model_validate({"experiments": ["demo"], **example})
    elif "corpus" in example:
        Analysis.model_validate(example)
    elif "encoders" in example:
        Models.model_validate({"generators": {}, **example})
    else:
        monkeypatch.chdir(root)
        base = {
            "prompts": "scenes",
            "references": ["scene_purple_cross"],
            "encoder": "miniature-qwen3-vl-instruct",
        }
        example["base"] = {**base, **example.get("base", {})}
        (root / "config/experiments/example.yaml").write_text(yaml.safe_dump(example, sort_keys=False))
        config = yaml.safe_load((root / "config/config.yaml").read_text())
        assert Project(config, root).design("example").cells


@by_page
def test_python_examples_run(page):
    for text in blocks(page, "python"):
        exec(compile(text, str(page), "exec"), {})


def test_the_counts_of_the_readme_are_those_of_its_example(root, monkeypatch):
    monkeypatch.chdir(root)
    (root / "config/experiments/vision.yaml").write_text(blocks(REPOSITORY / "README.md", "yaml")[0])
    design = Project(yaml.safe_load((root / "config/config.yaml").read_text()), root).design("vision")
    roles = [cell.role for cell in design.cells]
    text = (REPOSITORY / "README.md").read_text()
    assert f"= {roles.count('cell')} cells, and {roles.count('baseline')} baselines" in text


def test_the_first_example_of_the_guide_ships():
    shipped = yaml.safe_load((REPOSITORY / "config/experiments/open_background.yaml").read_text())
    assert yaml.safe_load(blocks(REPOSITORY / "docs/guide.md", "yaml")[0]) == shipped


def test_the_licence_of_the_references_lists_each_with_how_it_was_drawn():
    folder = REPOSITORY / "resources/references"
    rows = re.findall(
        r"^\| `(\w+\.png)` \| (.+) \| `(\w+)(?:\.py)?` \|$", (folder / "LICENSE.md").read_text(), re.MULTILINE
    )
    assert [name for name, _, _ in rows] == sorted(file.name for file in folder.glob("*.png"))
    drawn = (folder / "draw.py").read_text()
    for name, shows, how in rows:
        if how == "draw_scene":
            picture = np.asarray(Image.open(folder / name))
            caption = shows.removeprefix("a scene of the miniature world: ")
            assert np.array_equal(render_scene(parse_caption(caption), len(picture)), picture)
        else:
            assert f"def {Path(name).stem}(" in drawn


def test_the_fonts_and_weights_have_the_licences_that_the_readme_names():
    assert "CC0" in (REPOSITORY / "resources/references/LICENSE.md").read_text()
    assert "License: CC0" in (REPOSITORY / "resources/miniature/README.md").read_text()
    assert (REPOSITORY / "LICENSE").read_text().startswith("MIT License")


def test_the_citation_names_this_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    declared = (REPOSITORY / "pyproject.toml").read_text() + (
        REPOSITORY / "graftwork/__init__.py"
    ).read_text()
    assert citation["version"] == re.search(r'^(?:__)?version(?:__)? = "(.+)"$', declared, re.MULTILINE)[1]
    assert citation["license"] == "MIT"
