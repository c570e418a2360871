"""Whatever a configuration file holds, it gives a design or one kind of error, soon and with little memory."""

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graftwork.core.errors import DesignError
from graftwork.design.project import Project
from graftwork.design.schema import Base, Experiment
from tests.unit.design.designs import expand, experiment

MODELS = {
    "encoders": {"text": {"family": "qwen3", "path": "nowhere"}},
    "generators": {"images": {"family": "z_image", "path": "nowhere", "text_encoder": "text"}},
}
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["house", "a" * 300, "\0", "\ud800", "=1+1", "../x", "text", "images", "vision", "alpha"]
    )
)
KEYS = st.sampled_from(
    [*Experiment.model_fields, *Base.model_fields, "range", "count", "x", "y", "text", "name"]
)
TREES = st.recursive(
    SCALARS,
    lambda parts: (
        st.lists(parts, max_size=3) | st.dictionaries(KEYS | st.text(max_size=4), parts, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(KEYS, TREES, max_size=3),
    st.dictionaries(st.sampled_from(list(Base.model_fields)), TREES, max_size=3),
    st.dictionaries(st.sampled_from(["seed", "prompt", "reference", *Base.model_fields]), TREES, max_size=2),
)
def test_any_experiment_gives_cells_or_a_design_error(tmp_path, top, base, axes):
    raw = {**experiment(axes, base), **top}
    try:
        design = expand(tmp_path, raw)
    except DesignError as error:
        message = str(error)
    else:
        message = f"{len(design.cells)} cells of config/experiments/test.yaml"
    assert "config/experiments/test.yaml" in message
    assert "\x1b" not in message


@settings(max_examples=150, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TREES, TREES, TREES)
def test_any_settings_and_models_give_a_project_or_a_design_error(tmp_path, limits, defaults, models):
    (tmp_path / "config").mkdir(exist_ok=True)
    file = tmp_path / "config/models.yaml"
    file.write_text(yaml.safe_dump({**MODELS, **models} if isinstance(models, dict) else models))
    config = {"experiments": [], "limits": limits, "defaults": defaults}
    try:
        project = Project(config, tmp_path)
    except DesignError as error:
        message = str(error)
    else:
        message = f"config/ has {project.experiment_names()}"
    assert "config/" in message


@pytest.mark.parametrize(
    ("axes", "base", "more", "words"),
    [
        ({"alpha": {"range": [0, 1], "count": 100_000_000}}, {}, {}, "100000000 alpha"),
        ({"alpha": {"range": [0, 1], "count": 10**10}}, {}, {"max_images": 1_000_000}, "10000000000 alpha"),
        ({"seed": list(range(100_000))}, {}, {}, "100000 seed"),
        ({}, {"seeds": list(range(100_000))}, {}, "100000 seed"),
        ({}, {"references": ["house"] * 100_000}, {}, "100000 reference"),
        ({}, {"prompts": [f"a {n}" for n in range(100_000)]}, {}, "100000 prompt"),
        ({"seed": [1] * 50_000, "alpha": [0.5] * 50_000}, {}, {}, "50000 seed x 50000 alpha"),
        ({}, {}, {"max_images": 10**12}, "up to 1000000"),
        ({"seed": [[1] * 100] * 1000}, {}, {}, "axes.seed"),
    ],
)
def test_what_is_too_many_is_refused_at_once(tmp_path, axes, base, more, words):
    raw = experiment(axes, base, **more)
    start = time.process_time()
    with pytest.raises(DesignError) as error:
        expand(tmp_path, raw)
    assert time.process_time() - start < 1
    assert words in str(error.value)
    assert len(str(error.value)) < 5000


def test_many_wrong_values_are_a_short_message(tmp_path):
    start = time.process_time()
    with pytest.raises(DesignError, match="and 1980 further problems"):
        expand(tmp_path, experiment({}, {"seeds": ["x"] * 2000}))
    assert time.process_time() - start < 1


def test_many_seeds_are_cells_where_they_are_allowed(tmp_path):
    """Without a step that is quadratic in their number: 8,000 cells take 2 s."""
    start = time.process_time()
    design = expand(tmp_path, experiment({"seed": list(range(4000))}, max_images=10_000))
    assert len(design.positions) == 8000
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("folder", None, ["config/experiments/folder.yaml is a folder"]),
        ("list", "- a", ["must be a mapping", "it is list"]),
        ("empty", "", ["must be a mapping"]),
        ("x" * 101, "base: {}", ["an experiment cannot be called", "up to 100"]),
        ("(", "base: {}", ["an experiment cannot be called '('"]),
        ("seeds", "base: {prompts: [a], generator: images, seeds: [0123]}", ["base.seeds.0 (line 1)", "quote it"]),
        ("inf", "base: {prompts: [a], generator: images, guidance_scale: .inf}", ["base.guidance_scale", "no finite"]),
        ("quoted", "base: {prompts: [yes, 7], generator: images}", ["base.prompts", "7"]),
    ],
)  # fmt: skip
def test_files_of_experiments(tmp_path, name, content, parts):
    folder = tmp_path / "config/experiments"
    folder.mkdir(parents=True)
    (tmp_path / "config/models.yaml").write_text(yaml.safe_dump(MODELS))
    file = folder / f"{name}.yaml"
    file.mkdir() if content is None else file.write_text(content)
    with pytest.raises(DesignError) as error:
        Project({"experiments": []}, tmp_path).design(name)
    for part in parts:
        assert part in str(error.value)


def test_names_of_prompts_are_kept_as_written(tmp_path):
    folder = tmp_path / "config/prompts"
    folder.mkdir(parents=True)
    (folder / "names.yaml").write_text(
        "yes: a red circle\nno: a blue circle\n1:30: a black circle\n007: a cross\n"
    )
    design = expand(tmp_path, experiment({}, {"prompts": "names"}))
    (axis,) = [axis for axis in design.axes if axis.name == "prompt"]
    assert axis.labels == ["yes", "no", "1:30", "007"]


def test_an_experiment_that_is_listed_twice(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/models.yaml").write_text(yaml.safe_dump(MODELS))
    for key in ("experiments", "statistics"):
        with pytest.raises(DesignError, match=f"config/config.yaml: {key}: 'demo' occurs more than once"):
            Project({"experiments": [], key: ["demo", "demo"]}, Path(tmp_path))
