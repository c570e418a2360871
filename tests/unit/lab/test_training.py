"""Training: the loop can be interrupted anywhere, and a few steps of every stage give a family that loads."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from graftwork.models.hardware import configure_torch
from graftwork.models.loading import load_scorer
from graftwork.models.scorer import IMAGE_COSINE, TEXT_COSINE, YES, Looked
from graftwork.scenes.world import render_scenes, sample_scenes
from lab.miniature.evaluation import CPU, Family, encode_captions, generate, states_of
from lab.miniature.family import assemble_family, assemble_scorers
from lab.miniature.recipes import STAGE_NEEDS, Recipe, read_plan, scorer_entries
from lab.miniature.sizes import SIZES, new_tokenizer
from lab.miniature.tasks import TEXT_TASKS
from lab.miniature.training import autoencoder, loop
from lab.miniature.training.autoencoder import psnr
from lab.miniature.training.chat import (
    PROMPT_WEIGHT,
    TaskStream,
    answer_loss,
    collate,
    draw_tasks,
    render_prompt,
    right_answers,
)
from lab.miniature.training.stages import STAGES, Workshop, missed_gates, train_stage
from lab.miniature.training.text_encoder import linear_probe
from lab.miniature.training.transformer import draw_noise_levels, predict_velocity
from lab.miniature.training.vision import Pictures, covered_share, word_ids, word_shares
from lab.small_parts import new_image_processor, new_transformer, new_vae

RECIPE = Recipe(steps=100, batch_size=4, learning_rate=1e-2, warmup=5, ema=0.9)


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer()


class Stopped(Exception):
    pass


def regression(recipe, folder, stop_at=None):
    """Fits a line with batches from the step's random numbers; stops as if killed."""
    torch.manual_seed(recipe.seed)
    module = torch.nn.Linear(3, 1)

    def losses(step):
        if step == stop_at:
            raise Stopped
        x = torch.from_numpy(loop.step_rng(recipe.seed, step).normal(size=(recipe.batch_size, 3))).float()
        return {"loss": (module(x) - x.sum(dim=1, keepdim=True)).square().mean()}

    loop.fit(module, losses, loop.TrainingRun(recipe, folder, say=lambda line: None))
    return module


@pytest.mark.parametrize("stop_at", [10, 26, 60, 99])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path, monkeypatch, stop_at):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    whole = regression(RECIPE, tmp_path / "whole")
    with pytest.raises(Stopped):
        regression(RECIPE, tmp_path / "parts", stop_at)
    resumed = regression(RECIPE, tmp_path / "parts")
    assert torch.equal(whole.weight, resumed.weight)

    def curve(name):
        lines = (tmp_path / name / "curve.csv").read_text().splitlines()
        return [[line.split(",")[0], line.split(",")[2]] for line in lines]

    assert curve("whole") == curve("parts")


def test_a_finished_training_is_not_repeated(tmp_path):
    first = regression(RECIPE, tmp_path)
    again = regression(RECIPE, tmp_path, stop_at=0)
    assert torch.equal(first.weight, again.weight)


def test_a_checkpoint_of_another_recipe_is_moved_aside(tmp_path):
    regression(RECIPE, tmp_path)
    other = regression(replace(RECIPE, steps=50), tmp_path)
    assert torch.equal(other.weight, regression(replace(RECIPE, steps=50), tmp_path / "fresh").weight)
    assert [p.name for p in tmp_path.glob("checkpoint-of*")] == [
        "checkpoint-of-another-recipe-at-step-100.pt"
    ]


def test_a_loss_that_is_not_finite_stops_training(tmp_path):
    module = torch.nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="step 0"):
        loop.fit(
            module,
            lambda step: {"loss": module.weight.sum() * float("nan")},
            loop.TrainingRun(RECIPE, tmp_path),
        )


def test_the_learning_rate_rises_and_falls():
    rates = [loop.learning_rate_at(RECIPE, step) for step in range(RECIPE.steps)]
    assert rates[0] == pytest.approx(RECIPE.learning_rate / 5)
    assert max(rates) == pytest.approx(RECIPE.learning_rate)
    assert rates[-1] < 0.06 * RECIPE.learning_rate


def test_the_plan_names_what_is_wrong(tmp_path):
    plan = read_plan()
    assert list(plan.stages) == list(STAGE_NEEDS) == list(STAGES)
    file = tmp_path / "miniature.yaml"
    text = Path("resources/miniature/recipes.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("batch_size: 16", "batch: 16"))
    with pytest.raises(ValueError, match=r"stages.vae: batch not known; allowed: batch_size"):
        read_plan(file)
    file.write_text(text.replace("threads: 1", "threadz: 1"))
    with pytest.raises(ValueError, match="must have the keys device, stages, threads"):
        read_plan(file)
    file.write_text(text.replace("steps: 5500", "steps: 0"))
    with pytest.raises(ValueError, match=r"stages\.vae: steps 0 is below 1"):
        read_plan(file)


def test_answers_are_marked_and_padding_is_not(tokenizer):
    tasks = [TEXT_TASKS["restate"](scene, 1) for scene in sample_scenes(0, 5, "train")]
    batch = collate(tokenizer, [render_prompt(t.prompt) for t in tasks], [t.answer for t in tasks])
    for row, task in enumerate(tasks):
        ids, weights = batch.input_ids[row], batch.weights[row]
        assert tokenizer.decode(ids[weights == 1.0]) == task.answer + "<|im_end|>"
        assert (weights[batch.lengths[row] :] == 0).all()
        assert (weights[1 : batch.prompt_lengths[row]] == torch.tensor(PROMPT_WEIGHT)).all()
        assert weights[0] == 0
    logits = torch.nn.functional.one_hot(batch.input_ids.roll(-1, 1), len(tokenizer)).float() * 100
    assert answer_loss(logits, batch)[1] < 1e-6
    assert right_answers(logits, batch).all()
    logits[0, batch.lengths[0] - 2] = 0
    assert right_answers(logits, batch).tolist() == [False, True, True, True, True]


def test_the_prompts_are_those_of_the_adapters(tokenizer):
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a red circle"}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=True,
    )
    assert render_prompt("a red circle") == text


def test_every_caption_fits_into_32_tokens(tokenizer):
    """Else captions fall into two lengths, and half of every batch is padding."""
    prompts = [
        TEXT_TASKS[k](s, i).prompt for i, s in enumerate(sample_scenes(1, 100, "all")) for k in ("restate",)
    ]
    assert max(len(tokenizer(render_prompt(p))["input_ids"]) for p in prompts) <= 32


def test_batches_of_tasks_depend_on_the_step_only():
    scenes = sample_scenes(0, 50, "train")
    makers, shares = list(TEXT_TASKS.values()), [1 / len(TEXT_TASKS)] * len(TEXT_TASKS)

    def stream():
        return TaskStream(lambda rng, count: draw_tasks(makers, shares, scenes, rng, count), 3, 4)

    one = stream()
    straight = [one.batch(step) for step in range(20)]
    other = stream()
    assert [other.batch(step) for step in reversed(range(20))] == straight[::-1]
    assert all(len(batch) == 4 for batch in straight)


def test_patches_are_those_of_the_image_processor():
    scenes = sample_scenes(0, 3, "train")
    images = [Image.fromarray(p) for p in render_scenes(scenes, 128)]
    expected = new_image_processor(SIZES)(images=images, return_tensors="pt")
    patches, grid = Pictures().patches(scenes)
    assert torch.equal(patches, expected["pixel_values"])
    assert torch.equal(grid, expected["image_grid_thw"])


def test_image_tokens_say_what_is_true_there(tokenizer):
    scenes = sample_scenes(4, 20, "train")
    shares = word_shares(scenes, word_ids(tokenizer), len(tokenizer))
    assert torch.allclose(shares.sum(-1), torch.ones(20, 16), atol=1e-6)
    ids = word_ids(tokenizer)
    for row, scene in enumerate(scenes):
        covered = torch.from_numpy(covered_share(scene))
        assert ((shares[row, :, ids["shape", scene.shape]] > 0) == (covered > 0)).all()
        outside = shares[row, covered == 0]
        assert (outside[:, ids["background", scene.background]] > 0).all()


def test_velocity_is_what_the_pipeline_integrates(tokenizer):
    """One Euler step of the pipeline from pure noise must move along the velocity that training regresses."""
    torch.manual_seed(0)
    transformer = new_transformer(SIZES).eval()
    noisy, states = torch.randn(1, 16, 8, 8), [torch.randn(20, SIZES.hidden_size)]
    with torch.no_grad():
        velocity = predict_velocity(transformer, noisy, torch.tensor([0.7]), states)
        out = transformer([noisy[0].unsqueeze(1)], torch.tensor([0.3]), states, return_dict=False)[0][0]
    assert torch.equal(velocity[0], -out.squeeze(1))


def test_noise_levels_are_drawn_where_sampling_asks():
    levels = draw_noise_levels(20000, torch.Generator().manual_seed(0))
    assert 0 < levels.min() < levels.max() < 1
    assert float(levels.median()) == pytest.approx(0.75, abs=0.01)


def test_psnr():
    black = np.zeros((1, 2, 2, 3), np.uint8)
    assert psnr(black, black + 255)[0] == pytest.approx(0)
    assert psnr(black, black + 26)[0] == pytest.approx(20 * np.log10(255 / 26))


def test_offsetting_latents_changes_the_shift_factor_and_no_picture():
    torch.manual_seed(0)
    vae = new_vae(SIZES, use_post_quant_conv=True).eval()
    autoencoder._start_unchanged(vae.post_quant_conv)
    scenes = sample_scenes(0, 4, "train")
    autoencoder.set_latent_scale(vae, scenes)
    before = (
        autoencoder.encode_scenes(vae, scenes),
        autoencoder.reconstruct(vae, scenes),
        vae.config.shift_factor,
    )
    autoencoder.offset_latents(vae)
    autoencoder.set_latent_scale(vae, scenes)
    assert vae.config.shift_factor == pytest.approx(before[2] + autoencoder.LATENT_OFFSET, abs=1e-5)
    torch.testing.assert_close(autoencoder.encode_scenes(vae, scenes), before[0], atol=1e-4, rtol=1e-4)
    assert abs(autoencoder.reconstruct(vae, scenes).astype(int) - before[1]).max() <= 1


def test_a_linear_probe_finds_what_is_there_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    noise = torch.randn(400, 16, generator=generator)
    assert linear_probe(noise + 3 * torch.nn.functional.one_hot(labels, 16), labels, 4) > 0.95
    assert linear_probe(noise, labels, 4) < 0.45


def test_gates_say_what_was_missed():
    gates = {"psnr": ("at least", 30.0), "loss": ("at most", 0.1)}
    assert missed_gates(gates, {"psnr": 30.0, "loss": 0.1}) == []
    assert missed_gates(gates, {"psnr": 29.0, "loss": float("nan")}) == [
        "psnr is 29.0, must be at least 30.0",
        "loss is nan, must be at most 0.1",
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A family after a few steps of every stage: nothing it has learnt, but everything is in place."""
    workshop = Workshop(tmp_path_factory.mktemp("miniature"), say=lambda line: None, probe_count=4)
    for stage in STAGES:
        recipe = Recipe(2, 4, 1e-4, warmup=1, ema=0.9 if stage == "vae" else 0.0)
        train_stage(stage, recipe, workshop, gated=False)
    assemble_family(workshop, workshop.folder / "family")
    assemble_scorers(workshop, workshop.folder / "scorers")
    return workshop


@pytest.mark.slow
def test_a_few_steps_of_every_stage_give_a_family_that_the_adapters_load(trained):
    family = Family(trained.folder / "family")
    scenes = sample_scenes(0, 2, "train")
    text = encode_captions(family.encoder("qwen3"), ["a red circle", "a blue cross"])
    for name in ("qwen3-vl-instruct", "qwen3-vl-thinking"):
        seen = encode_captions(family.encoder(name), ["a red circle", "a blue cross"], scenes)
        assert len(states_of(seen)[0]) > len(states_of(text)[0]) + 16
    pictures = generate(family.generator(), states_of(text), steps=2)
    assert pictures.shape == (2, 64, 64, 3)


@pytest.mark.slow
def test_scorers_after_a_few_steps_are_loaded_and_asked(trained):
    configure_torch(CPU)
    entries = scorer_entries(trained.folder / "scorers")
    pictures = render_scenes(sample_scenes(0, 2, "train"))
    one, other = (Looked(str(row), Image.fromarray(picture)) for row, picture in enumerate(pictures))
    scorers = {role: load_scorer(role, entry, CPU) for role, entry in entries.items()}
    assert 0 < scorers["judge"].measure(YES, one, text="a red circle").value < 1
    assert -1 <= scorers["semantic"].measure(TEXT_COSINE, one, text="a red circle").value <= 1
    for role in ("semantic", "structural"):
        assert scorers[role].measure(IMAGE_COSINE, one, other=one).value == pytest.approx(1.0, abs=1e-5)
        assert scorers[role].measure(IMAGE_COSINE, one, other=other).value < 1.0


@pytest.mark.slow
def test_a_missed_gate_stops_what_comes_after_and_loses_nothing(trained):
    with pytest.raises(RuntimeError, match=r"stage vae missed its gate: psnr_mean is .* must be at least 30"):
        train_stage("vae", Recipe(2, 4, 1e-4, warmup=1, ema=0.9), trained)
    folder = trained.folder / "vae"
    assert not (folder / "probes.json").exists()
    assert json.loads((folder / "probes.missed.json").read_text())["missed"]
    assert (folder / "model").is_dir()
    assert (folder / "checkpoint.pt").is_file()
