"""The presets in config/experiments/: each expands, and their sizes are what docs/experiments.md says."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from graftwork.core.code_digest import REPOSITORY
from graftwork.design.cells import Design
from graftwork.design.inputs import PROMPT_FOLDER, read_prompts
from graftwork.design.project import Project
from tests.unit.design.designs import shipped

# Preset -> number of cells by role.
SIZES = {
    "adain": {"cell": 96, "baseline": 4},
    "alpha": {"cell": 88, "baseline": 4},
    "blend_comparison": {"cell": 104, "baseline": 4},
    "cross_normalization": {"cell": 128, "baseline": 4},
    "diverse_prompts": {"cell": 128, "baseline": 16},
    "embedding": {"cell": 128, "baseline": 8},
    "ensemble": {"cell": 96, "baseline": 8},
    "extreme_alphas": {"cell": 64, "baseline": 4},
    "full": {"cell": 240, "baseline": 2},
    "img2img_strength": {"cell": 96, "baseline": 48},
    "intra": {"cell": 80, "baseline": 4},
    "layer": {"cell": 56, "baseline": 4},
    "layer_by_token": {"cell": 144, "baseline": 2},
    "layer_by_token_quick": {"cell": 36, "baseline": 2},
    "multi_reference": {"cell": 96, "baseline": 16},
    "noise_control": {"cell": 144, "baseline": 4},
    "normalization": {"cell": 96, "baseline": 4},
    "outlier_masking": {"cell": 96, "baseline": 4},
    "rope_or_content": {"cell": 144, "baseline": 4},
    "steer": {"cell": 64, "baseline": 8},
    "steps": {"cell": 48, "baseline": 16},
    "style_delta": {"cell": 128, "baseline": 4},
    "style_transfer": {"cell": 128, "baseline": 4},
    "think_block": {"cell": 128, "baseline": 4},
    "timestep_alpha": {"cell": 80, "baseline": 4},
    "token_modes": {"cell": 96, "baseline": 4},
    "variants": {"cell": 72, "baseline": 2},
    "vl_only_vs_text": {"cell": 80, "baseline": 16},
    "vl_text_variations": {"cell": 96, "baseline": 2},
}
# Experiments that are no presets.
OTHERS = {
    "content_override",
    "artifact_severity",
    "baselines",
    "generalize",
    "demo",
    "first_look",
    "transforms",
    "open_background",
    "mapped_embedding",
    "mapped_vl",
}
MOST_CELLS = 150
LARGE = {"full"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The shipped configuration, with facts kept elsewhere."""
    root = tmp_path_factory.mktemp("presets")
    for name in ("config", "resources"):
        (root / name).symlink_to(REPOSITORY / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield Project(yaml.safe_load(Path("config/config.yaml").read_text()), root)


def cells_of(design: Design) -> frozenset[str]:
    return frozenset(cell.cell for cell in design.cells if cell.role == "cell")


def test_every_preset_is_there_and_no_other():
    # What users add is theirs.
    assert {path.stem for path in shipped("config/experiments")} - OTHERS == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_a_preset_has_so_many_cells(project, name):
    design = project.design(name)
    assert Counter(cell.role for cell in design.cells) == SIZES[name]
    assert name in LARGE or len(cells_of(design)) <= MOST_CELLS


@pytest.mark.parametrize("name", SIZES)
def test_a_preset_says_what_it_asks(project, name):
    raw = yaml.safe_load((REPOSITORY / f"config/experiments/{name}.yaml").read_text(encoding="utf-8"))
    assert raw["title"]
    assert "?" in raw["question"]
    assert raw["look_for"]
    assert project.design(name).grids


@pytest.mark.parametrize("name", SIZES)
def test_images_of_a_preset_are_scored(project, name):
    assert "scene_attributes" in project.design(name).scores


def test_no_two_presets_are_the_same(project):
    by_cells: dict[frozenset[str], list[str]] = {}
    for name in SIZES:
        by_cells.setdefault(cells_of(project.design(name)), []).append(name)
    assert {tuple(names) for names in by_cells.values() if len(names) > 1} == set()
    assert len({project.design(name).title for name in SIZES}) == len(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_no_setting_of_a_preset_says_nothing_new(project, name):
    design = project.design(name)
    named = [cell for _, cell in design.positions]
    assert len(set(named)) == len(named)


def test_the_variants_are_those_of_the_published_comparison(project):
    """72 cells: two encoders, three alphas, three layers, two token modes and two prompts, at three steps."""
    design = project.design("variants")
    cells = [cell.parameters for cell in design.cells if cell.role == "cell"]
    for parameter, values in {
        "alpha": {0.3, 0.5, 1.0},
        "hidden_layer": {-2, -6, -8},
        "token_mode": {"text_only", "full"},
        "blend": {"adain_per_dim"},
        "num_inference_steps": {3},
    }.items():
        assert {cell[parameter] for cell in cells} == values
    for parameter in ("encoder", "prompt"):
        assert len({cell[parameter] for cell in cells}) == 2
    (grid,) = design.grids
    pages = Counter(axis.name for axis in design.axes if len(axis.values) > 1)
    assert set(pages) - {grid.x, grid.y} == {"encoder", "prompt"}


def test_the_table_of_the_documentation_is_right():
    text = (REPOSITORY / "docs/experiments.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \|.*\| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert {
        name: {"cell": int(cells), "baseline": int(baselines)} for name, cells, baselines in rows
    } == SIZES
    sections = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert [name for name in sections if name in SIZES] == sorted(SIZES)


@pytest.mark.parametrize("file", [path.stem for path in shipped(PROMPT_FOLDER)])
def test_a_set_of_prompts_can_be_read(file):
    assert read_prompts(file, REPOSITORY, "config/prompts")


def test_all_stands_for_every_experiment(project):
    everything = Project({**project.settings.model_dump(), "experiments": "all", "hardware": {}}, Path.cwd())
    assert everything.settings.experiments == project.experiment_names()
