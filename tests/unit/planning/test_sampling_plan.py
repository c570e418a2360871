"""Plans of cells with guidance and images to start from."""

import pytest

from graftwork.planning.plan import count_missing, resolve_images
from graftwork.planning.shards import ExtractionShard, ImageShard, read_shard
from graftwork.reports.table import cell_rows
from graftwork.store.recipes import add_recipes
from graftwork.store.records import ConditioningReport
from tests.unit.design.designs import experiment
from tests.unit.planning.fake_store import Situation

ONE_PROMPT = {"prompts": ["a red apple"], "alpha": 0.0}


def situation_of(tmp_path, axes=None, backend="native", **base):
    situation = Situation(tmp_path, experiment(axes, {**ONE_PROMPT, **base}, baseline=False))
    situation.hardware.generation.attention_backend = backend
    return situation


def condition(situation, negative_tokens):
    situation.condition()
    rows = {}
    for cell in situation.cells.values():
        rows[situation.recipe(cell)] = ConditioningReport(
            situation.hash_of(cell),
            tokens=20,
            source_tokens=0,
            warnings=("from the transforms",),
            negative_tokens=negative_tokens if cell["guidance_scale"] else None,
        )
    for file in situation.store.recipes.glob("*"):
        file.unlink()
    add_recipes(situation.store.recipes, rows)


def shards_of(situation, plan):
    return [read_shard(ImageShard, situation.store.shards, name) for name in plan.shards]


def test_negative_prompts_are_extracted_like_prompts(tmp_path):
    axes = {"guidance_scale": [1.0, 2.0], "negative_prompt": ["", "blurry"]}
    situation = situation_of(tmp_path, axes)
    plan = situation.plan_conditioning()
    prompts = sorted(
        item.input.prompt
        for name in plan.extraction
        for item in read_shard(ExtractionShard, situation.store.shards, name).inputs
    )
    assert prompts == ["", "a red apple", "blurry"]
    assert plan.missing_recipes == 2, "the scale of guidance is no part of a recipe"


def test_a_shard_says_how_long_negatives_are_and_where_images_lie(tmp_path):
    situation = situation_of(
        tmp_path, {"init_image": [None, "reference", "tree"]}, guidance_scale=2.0, strength=0.5
    )
    condition(situation, 9)
    (shard,) = shards_of(situation, situation.plan_images())
    assert [(item.tokens, item.negative_tokens) for item in shard.images] == [(20, 9)] * 3
    wanted = {item.parts.init_image for item in shard.images} - {None}
    assert set(shard.init_images) == wanted
    assert sorted(shard.init_images.values()) == [
        "config/references/house.png",
        "config/references/tree.png",
    ]


@pytest.mark.parametrize(
    ("negative_tokens", "backend", "error"),
    [
        (32, "flash", None),
        (33, "native", None),
        (33, "_native_cudnn", None),
        (33, "flash", "padded to 32 and 64; attention backend 'flash' takes only equal ones"),
        (33, "_native_flash", "hardware.generation.attention_backend to native"),
        (97, "native", "its negative prompt has 97 tokens; the generator takes at most 96"),
    ],
)
def test_negatives_that_the_generator_cannot_take_fail(tmp_path, negative_tokens, backend, error):
    situation = situation_of(tmp_path, {"guidance_scale": [0.0, 1.0]}, backend)
    condition(situation, negative_tokens)
    plan = situation.plan_images()
    errors = {situation.cells[cell]["guidance_scale"]: entry.error for cell, entry in plan.cells.items()}
    assert errors[0.0] is None
    assert (errors[1.0] is None) == (error is None)
    assert error is None or error in errors[1.0]


def count(situation):
    resolved = resolve_images(situation.designs, situation.hardware, situation.store)
    return count_missing(situation.designs, situation.hardware, resolved, situation.store)


def test_the_estimate_counts_guidance_twice_and_steps_that_are_run(tmp_path):
    axes = {"guidance_scale": [0.0, 1.0], "init_image": [None, "tree"]}
    situation = situation_of(tmp_path, axes, strength=0.5)
    expected = 64 * 64 * 8 * (1 + 2) * (1 + 0.5)
    unknown = count(situation)
    assert (unknown.unknown, unknown.work) == (4, expected)
    condition(situation, 9)
    known = count(situation)
    assert (known.known, known.work) == (4, expected)


def test_warnings_of_sampling_are_in_the_table(tmp_path):
    situation = situation_of(tmp_path, {"strength": [0.5, 0.9]}, init_image="tree")
    condition(situation, 9)
    design = situation.designs[0]
    rows = cell_rows(design, situation.plan_images().cells, {}, situation.store)
    by_strength = {row["strength"]: row for row in rows}
    assert by_strength[0.5]["warnings"] == "from the transforms"
    assert by_strength[0.9]["warnings"].startswith("from the transforms; strength 0.9 at num_inference_steps")
    assert {row["init_image"] for row in rows} == {"tree"}
    assert {row["init_image_sha256"] for row in rows} == set(design.references) - {
        row["reference_sha256"] for row in rows
    }


def test_a_conditioning_of_several_alphas_is_spelled_out(tmp_path):
    situation = situation_of(
        tmp_path, {}, alpha=0.5, alpha_schedule={"kind": "linear"}, num_inference_steps=3
    )
    (cell,) = situation.cells.values()
    assert situation.keys.recipe(cell).alphas == (0.5, 0.25, 0.0)
    row = ConditioningReport(situation.hash_of(cell), 20, source_tokens=1, alphas=(0.5, 0.25, 0.0))
    add_recipes(situation.store.recipes, {situation.recipe(cell): row})
    (line,) = cell_rows(situation.designs[0], situation.plan_images().cells, {}, situation.store)
    assert line["alphas"] == "0.5; 0.25; 0.0"
    assert '"kind": "linear"' in line["alpha_schedule"]
