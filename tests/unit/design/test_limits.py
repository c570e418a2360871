"""Limits of models that are known from their files are checked before a model is loaded."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from graftwork.core.code_digest import REPOSITORY
from graftwork.core.errors import DesignError
from graftwork.models.catalog import ModelCatalog, image_problem, image_tokens
from tests.unit.design.designs import expand, experiment, some_models

FAMILY = REPOSITORY / "resources/miniature/family"


def limited():
    limits = {"max_height": 1024, "max_width": 512, "max_steps": 1000}
    return [
        replace(model, facts=replace(model.facts, **limits)) if model.kind == "generator" else model
        for model in some_models()
    ]


def strip(root, width, height):
    folder = root / "config/references"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, dtype=np.uint8)).save(folder / "strip.png")
    return {"references": ["strip"]}


@pytest.mark.parametrize(
    ("base", "parts"),
    [
        (
            {"height": 1_000_000, "width": 1_000_000},
            ["height 1000000 is more than 'images'", "16 to 1024 pixels"],
        ),
        ({"width": 528}, ["width 528 is more than 'images'", "16 to 512 pixels"]),
        ({"num_inference_steps": 10**12}, ["num_inference_steps 1000000000000", "allowed: 1 to 1000"]),
    ],
)
def test_sizes_and_steps(tmp_path, base, parts):
    for raw in (experiment({}, base), experiment({name: [value] for name, value in base.items()})):
        with pytest.raises(DesignError) as error:
            expand(tmp_path, raw, models=limited())
        for part in ["config/experiments/test.yaml", *parts]:
            assert part in str(error.value)
    assert expand(tmp_path, experiment({}, {"height": 1024, "width": 512}), models=limited()).cells


@pytest.mark.parametrize("size", [(1000, 4), (4, 1000), (2010, 10)])
def test_an_image_that_the_encoder_cannot_take(tmp_path, size):
    raw = experiment({"alpha": [0.0, 1.0]}, strip(tmp_path, *size))
    with pytest.raises(DesignError) as error:
        expand(tmp_path, raw)
    for part in (
        "'strip'",
        "config/references/strip.png",
        f"{size[0]} x {size[1]}",
        "'vision'",
        "up to 1 to 200",
        "crop",
    ):
        assert part in str(error.value)
    # The text alone does not look at it.
    assert expand(tmp_path, experiment({"alpha": [0.0]}, strip(tmp_path, *size))).cells


def test_an_image_at_the_limit(tmp_path):
    assert expand(tmp_path, experiment({}, strip(tmp_path, 800, 4))).cells


def test_the_limit_is_that_of_the_library():
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    (vision,) = [model for model in some_models() if model.name == "vision"]
    for width, height in ((800, 4), (804, 4), (4, 801), (30000, 10), (64, 64)):
        try:
            smart_resize(height, width)
            refused = False
        except ValueError:
            refused = True
        assert (image_problem(vision, width, height) is not None) == refused


@pytest.mark.parametrize("size", [(64, 64), (4000, 3000), (8, 12), (1000, 30), (47, 49), (3, 600)])
def test_tokens_of_an_image_are_those_of_the_library(size):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    (vision,) = [model for model in some_models() if model.name == "vision"]
    facts = replace(vision.facts, patch_size=16, spatial_merge_size=2, min_pixels=65536, max_pixels=2**20)
    rows, columns = smart_resize(size[1], size[0], 32, 65536, 2**20)
    assert image_tokens(replace(vision, facts=facts), *size) == rows * columns // 32**2


def test_an_image_that_is_too_long_for_the_generator(tmp_path):
    sizes = {"patch_size": 2, "spatial_merge_size": 1, "min_pixels": 16, "max_pixels": 10_000}
    models = [
        replace(model, facts=replace(model.facts, **sizes)) if model.kind == "encoder" else model
        for model in some_models()
    ]
    own = {**strip(tmp_path, 40, 20), "length_matching": "none"}
    with pytest.raises(
        DesignError, match=r"'strip'.*becomes 200 tokens, but generator 'images' takes 96"
    ) as error:
        expand(tmp_path, experiment({}, own), models=models)
    assert "another length_matching than 'none'" in str(error.value)
    for fits in ({"length_matching": "linear"}, {"token_mode": "text_only"}, strip(tmp_path, 16, 20)):
        assert expand(tmp_path, experiment({}, {**own, **fits}), models=models).cells


def test_limits_are_read_from_the_files_of_the_generator(tmp_path):
    entries = {
        "encoders": {},
        "generators": {"images": {"family": "z_image", "path": str(FAMILY / "z-image"), "text_encoder": "x"}},
    }
    facts = ModelCatalog(entries, "config/models.yaml", tmp_path).get("generator", "images", "x").facts
    config = json.loads((FAMILY / "z-image/transformer/config.json").read_text())
    assert [facts.max_height, facts.max_width] == [16 * side for side in config["axes_lens"][1:]]
    assert facts.max_steps == 1000
