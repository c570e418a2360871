"""Every family of generators through planning and jobs: what families share, and that a rerun makes what is missing."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from graftwork.core.records import from_json, to_json
from graftwork.design.cells import Design
from graftwork.design.project import Project
from graftwork.jobs.conditioning import condition
from graftwork.jobs.extraction import extract_hidden_states
from graftwork.jobs.generation import generate_images
from graftwork.models.families import generator_families
from graftwork.planning.plan import ConditioningPlan, ImagePlan, plan_conditioning, plan_images
from graftwork.planning.shards import ConditioningShard, ExtractionShard, ImageShard, read_shard
from graftwork.store.hidden_states import intact_layers
from graftwork.store.layout import Store
from tests.small_family import build_small_family, small_entries
from tests.small_generators import LAYERS, generator_entries, new_generator
from tests.small_sdxl import save_sdxl

REPOSITORY = Path(__file__).resolve().parents[3]
LOG = logging.getLogger("test")
# Generators of the published encoders; the others are conditioned on encoders of their own, which no graft replaces.
OF_THEIR_OWN = {"sdxl": "clip_pair"}
FAMILIES = sorted(set(generator_families()) - set(OF_THEIR_OWN))
EXPERIMENT: dict[str, Any] = {
    "base": {
        "prompts": ["a red apple"],
        "references": ["scene_purple_cross"],
        "encoder": "qwen3-vl-instruct",
        "num_inference_steps": 2,
        "height": 32,
        "width": 32,
    },
    "axes": {"generator": FAMILIES, "alpha": [0.0, 0.5]},
}


@dataclass
class Sweep:
    """An experiment in a folder of its own, planned and made in this process."""

    root: Path
    store: Store

    def design(self, controls: Mapping[str, Any], **changes: Any) -> tuple[Project, Design]:
        """Returns the design of the experiment with other values of `axes`, and with keys about controls."""
        experiment = {**EXPERIMENT, **controls, "axes": {**EXPERIMENT["axes"], **changes}}
        (self.root / "config/experiments/families.yaml").write_text(yaml.safe_dump(experiment))
        config = {"experiments": ["families"], "hardware": {"generation": {"batch_shape": 2}}}
        project = Project(config, self.root)
        return project, from_json(Design, json.loads(json.dumps(to_json(project.design("families")))))

    def run(
        self, controls: Mapping[str, Any] | None = None, **changes: Any
    ) -> tuple[Design, ConditioningPlan, ImagePlan, list[str]]:
        """Makes what is missing; returns the design, both plans and the keys of the images that were made."""
        project, design = self.design(controls or {}, **changes)
        hardware, sharding, store = project.settings.hardware, project.settings.sharding, self.store
        plan = plan_conditioning([design], hardware, sharding, store)
        for name in plan.extraction:
            shard = read_shard(ExtractionShard, store.shards, name)
            assert extract_hidden_states(shard, store, LOG).failures == {}
        for name in plan.conditioning:
            shard = read_shard(ConditioningShard, store.shards, name)
            assert condition(shard, store, LOG, {}).failures == {}
        images = plan_images([design], hardware, sharding, store, {})
        made = []
        for name in images.shards:
            record = generate_images(read_shard(ImageShard, store.shards, name), store, LOG)
            assert record.failures == {}
            made += record.made
        return design, plan, images, made

    def images(self) -> dict[str, bytes]:
        return {path.stem: path.read_bytes() for path in self.store.root.glob("images/*/*.png")}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    root = tmp_path_factory.mktemp("sweep")
    small = root / "small"
    build_small_family(small)
    entries = small_entries(small)
    generators = {"z_image": entries["generators"]["z-image"], **generator_entries(small)}
    for family in FAMILIES:
        if not Path(generators[family]["path"]).exists():
            new_generator(family).save_pretrained(generators[family]["path"])
    for family, text_encoder in OF_THEIR_OWN.items():
        path = str(save_sdxl(small / family))
        generators[family] = {"family": family, "path": path, "text_encoder": text_encoder}
        entries["encoders"][text_encoder] = {"family": text_encoder, "path": path}
    (root / "config/experiments").mkdir(parents=True)
    models = {"encoders": entries["encoders"], "generators": generators}
    (root / "config/models.yaml").write_text(yaml.safe_dump(models))
    (root / "resources").symlink_to(REPOSITORY / "resources")
    threads, here = torch.get_num_threads(), Path.cwd()
    os.chdir(root)
    yield Sweep(root, Store(root / "results/store"))
    os.chdir(here)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(sweep):
    return sweep.run()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_sees_the_source(finished, family):
    design, _, images, made = finished
    assert sorted(made) == sorted({entry.image for entry in images.cells.values()})
    own = {
        cell.parameters["alpha"]: images.cells[cell.cell]
        for cell in design.cells
        if design.models[cell.parameters["generator"]].facts.family == family
    }
    assert own[0.0].report.visible_change == 0.0
    assert own[0.5].report.visible_change > 0.0
    assert own[0.0].image != own[0.5].image


def test_families_share_the_states_of_encoders(sweep, finished):
    """The picture is encoded once for all; texts are, unless a family has another template or padding."""
    _, plan, _, _ = finished
    stored = {path.stem: intact_layers(path) for path in sweep.store.root.glob("hidden_states/*/*.h5")}
    assert {key: tuple(layers) for key, layers in stored.items()} == dict(plan.hidden_states)
    assert sorted(map(tuple, stored.values())) == sorted([(5,), LAYERS, LAYERS, LAYERS])


def test_a_finished_sweep_plans_nothing(sweep, finished):
    _, plan, images, made = sweep.run()
    assert (plan.extraction, plan.conditioning, images.shards, made) == ((), (), (), [])


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_missing_is_made_again_and_is_the_same(sweep, finished, family):
    """As after a run that was killed: one image is there, the other is not, and its conditioning was dropped."""
    design, _, images, _ = finished
    before = sweep.images()
    cell = next(
        cell
        for cell in design.cells
        if cell.parameters["alpha"] == 0.5
        and design.models[cell.parameters["generator"]].facts.family == family
    )
    image = images.cells[cell.cell].image
    sweep.store.image(image).unlink()
    _, plan, _, made = sweep.run()
    assert (plan.missing_hidden_states, plan.missing_recipes, made) == (0, 1, [image])
    assert sweep.images() == before


def test_another_mapping_of_layers_is_another_image_from_the_same_states(sweep, finished):
    before = sweep.images()
    name = next(name for name in FAMILIES if name != "z_image")
    mappings = ["same", {LAYERS[0]: LAYERS[2]}, {layer: layer for layer in LAYERS}]
    design, plan, images, made = sweep.run(generator=[name], alpha=[0.5], hidden_layer=mappings)
    assert plan.missing_hidden_states == 0
    cells = [cell for cell in design.cells if cell.role == "cell"]
    assert len(cells) == 2, "`same` is each layer in its own place"
    assert cells[1].parameters["hidden_layer"] == {str(LAYERS[0]): LAYERS[2]}
    assert made == [images.cells[cells[1].cell].image]
    assert images.cells[cells[0].cell].image in before


CONTROLS = {
    "controls": ["edit", "ip_adapter"],
    "edit": {"generator": "flux2_klein"},
    "ip_adapter": {"generator": "sdxl", "guidance_scale": 1.5, "scales": [0.3, 0.9]},
}


def test_generators_that_are_shown_a_reference_are_planned_and_made_as_others(sweep, finished):
    """Controls share their conditioning with the text alone of their generator, and are made again where they are missing."""
    before = sweep.images()
    design, plan, images, made = sweep.run(CONTROLS)
    role_of = {cell.cell: cell.role for cell in design.cells}
    controls = [cell for cell in design.cells if cell.role == "control"]
    assert sorted(cell.shown["control"] for cell in controls) == ["edit", "ip_adapter 0.3", "ip_adapter 0.9"]
    # The text of SDXL and its negative prompt. The text of the editor is known; its conditioning was dropped with the last image.
    assert (plan.missing_hidden_states, plan.missing_recipes) == (2, 2)
    assert set(made) == set(sweep.images()) - set(before)
    # The three, and the text alone of SDXL.
    assert len(made) == 4
    for cell in controls:
        own, text = images.cells[cell.cell], images.cells[design.baselines[cell.cell]]
        assert role_of[design.baselines[cell.cell]] == "baseline"
        assert own.conditioning == text.conditioning
        assert sweep.images()[own.image] != sweep.images()[text.image]
    assert sweep.run(CONTROLS)[3] == []

    missing = images.cells[controls[-1].cell].image
    sweep.store.image(missing).unlink()
    assert sweep.run(CONTROLS)[3] == [missing]
    assert set(sweep.images()) == {*before, *made}
