"""Known no-ops of Z-Image, on the miniature: from an experiment to what is reported, in one process and without images."""

import json
import logging
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import ZImageTransformer2DModel
from safetensors.torch import load_file

from graftwork.core.records import from_json, to_json
from graftwork.design.cells import Design
from graftwork.design.project import Project
from graftwork.jobs.conditioning import condition
from graftwork.jobs.extraction import extract_hidden_states
from graftwork.planning.no_ops import find_no_ops, one_line, setting_text
from graftwork.planning.plan import plan_conditioning, plan_images
from graftwork.planning.shards import ConditioningShard, ExtractionShard, read_shard
from graftwork.store.layout import Store

REPOSITORY = Path(__file__).resolve().parents[3]
LOG = logging.getLogger("test")
EXPERIMENT = {
    "base": {
        "prompts": ["a large red circle on the left", "a checkered green background"],
        "references": ["scene_purple_cross"],
        "encoder": "miniature-qwen3-vl-instruct",
        "normalization": "global",
    },
    "axes": {"target_std": [50.0, 61.0, 70.0], "alpha": [0.0, 0.5, 1.0]},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The design, the plan of images, and the store, after extraction and conditioning."""
    root = tmp_path_factory.mktemp("no_ops")
    (root / "config/experiments").mkdir(parents=True)
    (root / "config/experiments/stds.yaml").write_text(yaml.safe_dump(EXPERIMENT, sort_keys=False))
    (root / "config/models.yaml").symlink_to(REPOSITORY / "config/models.yaml")
    (root / "resources").symlink_to(REPOSITORY / "resources")
    config = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        project = Project({**config, "experiments": ["stds"], "maps": []}, root)
        design = from_json(Design, json.loads(json.dumps(to_json(project.design("stds")))))
        hardware, sharding = project.settings.hardware, project.settings.sharding
        store = Store(root / "results/store")
        plan = plan_conditioning([design], hardware, sharding, store)
        for name in plan.extraction:
            shard = read_shard(ExtractionShard, store.shards, name)
            assert extract_hidden_states(shard, store, LOG).failures == {}
        for name in plan.conditioning:
            shard = read_shard(ConditioningShard, store.shards, name)
            assert condition(shard, store, LOG, {}).failures == {}
        images = plan_images([design], hardware, sharding, store, {})
    torch.set_num_threads(threads)
    return design, images.cells, store


def test_at_alpha_one_no_target_std_is_seen(built):
    design, resolved, _ = built
    found = find_no_ops(design, resolved)
    assert [(setting_text(item.values), setting_text(item.equals), item.kind) for item in found.found] == [
        ("target_std 61, alpha 1", "target_std 50, alpha 1", "scale"),
        ("target_std 70, alpha 1", "target_std 50, alpha 1", "scale"),
    ]
    assert one_line(found, "stds") == (
        "stds: 2 of 6 settings with alpha above 0 are no-ops (3 settings at alpha 0 are the text alone by definition and "
        "not counted): target_std 61 or 70 = target_std 50, at alpha 1 (the same but for a scale that the generator cannot "
        "see)"
    )


def test_what_is_reported_is_what_the_first_caption_layer_does(built):
    """Not our norm, but that layer of the model itself: equal where it is said to be, and only there."""
    design, resolved, store = built
    layer = ZImageTransformer2DModel.from_pretrained(
        REPOSITORY / "resources/miniature/family/z-image/transformer"
    ).cap_embedder
    seen = {}
    for cell in design.cells:
        p, entry = cell.parameters, resolved[cell.cell]
        embeds = load_file(store.conditioning(entry.conditioning))["prompt_embeds"]
        with torch.no_grad():
            seen[p["prompt"], p["alpha"], p.get("target_std")] = layer[0](embeds), entry.report
    for (prompt, alpha, std), (values, report) in seen.items():
        if std is None:
            continue
        text, first = (seen[key][0] for key in ((prompt, 0.0, 50.0), (prompt, alpha, 50.0)))
        apart = float((values - first).norm() / first.norm())
        if alpha == 0.5 and std != 50.0:
            assert apart > 1e-2
        else:
            assert apart < 1e-6
        change = float((values - text).norm() / text.norm())
        assert report.visible_change == pytest.approx(change, rel=1e-4)
        assert (report.visible_change == 0.0) == (alpha == 0.0)
