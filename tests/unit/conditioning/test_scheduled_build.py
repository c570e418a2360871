"""Conditioning that differs between steps, and negative conditioning: which tensors, in which order, under which hash."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline

from graftwork.conditioning import build
from graftwork.conditioning.build import conditioning_hash
from graftwork.models.generators.z_image import scheduler_sigmas
from lab.real_shapes import Z_IMAGE_SCHEDULER
from tests.unit.conditioning.test_build import (
    SOURCE_ROLES,
    TEXT_ALONE,
    TEXT_ROLES,
    build_conditioning,
    recipe,
    states,
)
from tests.unit.jobs.recipes import as_recipe

TEXT, SOURCE = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1)
NEGATIVE = states(["sink", "template", "template"], seed=2)


def scheduled(alphas: list[float], dtype: str = "float32", **chosen):
    return build_conditioning({**recipe(dtype, **chosen), "alpha": alphas}, TEXT, SOURCE)


def at(alpha: float, dtype: str = "float32", **chosen) -> torch.Tensor:
    return build_conditioning(recipe(dtype, alpha, **chosen), TEXT, SOURCE).tensors["prompt_embeds"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("blend", ["linear", "slerp", "adain_per_dim", "noise"])
def test_each_step_gets_what_its_alpha_alone_would_give(dtype, blend):
    alphas = [1.0, 0.25, 1.0, 0.5, 0.25]
    built = scheduled(alphas, dtype, blend=blend)
    assert built.tensors["prompt_embeds"].shape[0] == 3, "what occurs twice is kept once"
    assert built.tensors["prompt_embeds_of_step"].dtype == torch.int64
    assert built.tensors["prompt_embeds_of_step"].tolist() == [0, 1, 0, 2, 1]
    for step, alpha in enumerate(alphas):
        got = built.tensors["prompt_embeds"][built.tensors["prompt_embeds_of_step"][step]]
        assert torch.equal(got, at(alpha, dtype, blend=blend))
    assert built.report.alphas == tuple(alphas)
    assert built.report.tokens == 7


def test_at_alpha_zero_a_step_gets_the_text_bit_for_bit():
    text = build_conditioning({**TEXT_ALONE, "dtype": "float32"}, TEXT, None).tensors["prompt_embeds"]
    built = scheduled([1.0, 0.0])
    assert torch.equal(built.tensors["prompt_embeds"][1], text)


def test_the_order_of_steps_is_in_the_hash():
    alphas = [1.0, 0.5, 0.25]
    hashes = {scheduled(order).hash for order in (alphas, alphas[::-1], [1.0, 0.25, 0.5], [*alphas, 0.25])}
    assert len(hashes) == 4


def test_the_same_alpha_at_all_steps_is_stored_as_that_alpha():
    built, plain = scheduled([0.5, 0.5]), build_conditioning(recipe(alpha=0.5), TEXT, SOURCE)
    assert set(built.tensors) == {"prompt_embeds"}
    assert built.hash == plain.hash
    assert built.report == plain.report


def test_alphas_that_give_the_same_bytes_are_one_tensor():
    """In bfloat16 the millionth part of an alpha is rounded away."""
    built = scheduled([0.5, 0.5 + 1e-9], "bfloat16")
    assert built.tensors.get("prompt_embeds_of_step") is None
    assert built.hash == build_conditioning(recipe("bfloat16", 0.5), TEXT, SOURCE).hash


def test_a_blend_says_once_what_it_says_at_every_alpha():
    flat = states(SOURCE_ROLES, values=torch.full((len(SOURCE_ROLES), 6), 0.1))
    chosen = {**recipe(normalization="global"), "alpha": [1.0, 0.5]}
    assert len(build_conditioning(chosen, TEXT, flat).report.warnings) == 1


def over_sigma(first_step: int = 0, steps: int = 4, image_tokens: int = 0, **scheduler):
    schedule = {"kind": "points", "points": [[0.0, 0.0], [1.0, 1.0]]}  # Alpha is p, so 1 - sigma.
    chosen = recipe(alpha=1.0)
    chosen["alpha_over_sigma"] = {
        "schedule": schedule,
        "num_inference_steps": steps,
        "first_step": first_step,
        "scheduler": {**Z_IMAGE_SCHEDULER, **scheduler},
        "image_tokens": image_tokens,
        "family": "z_image",
        "code": "",
    }
    return build.alphas_of_recipe(as_recipe(chosen))


def test_a_schedule_over_sigma_follows_the_scheduler():
    """Shift 3: sigma = 3 s / (1 + 2 s) for s = 1, 3/4, 1/2, 1/4."""
    assert over_sigma() == pytest.approx([0.0, 0.1, 0.25, 0.5], abs=1e-7)
    assert over_sigma(first_step=2) == pytest.approx([0.25, 0.5], abs=1e-7)
    assert over_sigma(shift=1.0) == pytest.approx([0.0, 0.25, 0.5, 0.75], abs=1e-7)
    assert over_sigma(use_dynamic_shifting=True, image_tokens=16) != over_sigma(
        use_dynamic_shifting=True, image_tokens=4096
    )


@pytest.mark.parametrize("dynamic", [False, True])
def test_sigmas_are_those_that_the_pipeline_sets(dynamic):
    """Read off the scheduler when the pipeline asks for the first prediction."""

    class Stop(Exception):
        pass

    class Transformer(torch.nn.Module):
        dtype, device, in_channels = torch.float32, torch.device("cpu"), 16

        def forward(self, *_, **__):
            raise Stop

    scheduler = FlowMatchEulerDiscreteScheduler(**{**Z_IMAGE_SCHEDULER, "use_dynamic_shifting": dynamic})
    pipeline = ZImagePipeline(scheduler, None, None, None, Transformer())
    pipeline.set_progress_bar_config(disable=True)
    with pytest.raises(Stop):
        pipeline(
            prompt_embeds=[torch.zeros(4, 8)], height=64, width=128, num_inference_steps=5, guidance_scale=0.0
        )
    assert torch.equal(scheduler.sigmas, scheduler_sigmas(scheduler.config, 5, 4 * 8))
    for first in range(5):
        assert torch.equal(scheduler.sigmas[first:], scheduler_sigmas(scheduler.config, 5, 4 * 8, first))


def negative_recipe(**values):
    return {**TEXT_ALONE, "dtype": "float32", "negative": "n", **values}


def built_with_negative(chosen):
    return build.build_conditioning(
        as_recipe(chosen), lambda key, layer: {"t": TEXT, "s": SOURCE, "n": NEGATIVE}[key]
    )


def test_the_negative_is_a_tensor_of_its_own():
    built = built_with_negative(negative_recipe())
    plain = build_conditioning({**TEXT_ALONE, "dtype": "float32"}, TEXT, None)
    assert set(built.tensors) == {"prompt_embeds", "negative_prompt_embeds"}
    assert torch.equal(built.tensors["prompt_embeds"], plain.tensors["prompt_embeds"])
    assert torch.equal(built.tensors["negative_prompt_embeds"], torch.from_numpy(NEGATIVE.values))
    assert built.report.negative_tokens == 3
    assert built.hash != plain.hash
    swapped = {
        "prompt_embeds": built.tensors["negative_prompt_embeds"],
        "negative_prompt_embeds": built.tensors["prompt_embeds"],
    }
    assert conditioning_hash(swapped) != built.hash


def test_the_negative_has_the_layer_of_the_text():
    asked = []
    build.build_conditioning(as_recipe(negative_recipe()), lambda *what: asked.append(what) or TEXT)
    assert asked == [("t", 7), ("n", 7)]


def test_a_negative_that_is_not_finite_is_refused():
    bad = states(["sink"], values=torch.full((1, 6), float("nan")))
    with pytest.raises(FloatingPointError, match="6 of 6 values"):
        build.build_conditioning(as_recipe(negative_recipe()), lambda key, layer: bad if key == "n" else TEXT)


def test_golden_hash_of_a_schedule():
    """Image keys contain it."""
    tensor = torch.tensor([[[0.0, 1.5]], [[-2.0, 3.25]]])
    tensors = {
        "prompt_embeds": tensor,
        "prompt_embeds_of_step": torch.tensor([0, 1, 1]),
        "negative_prompt_embeds": torch.tensor([[0.5, 0.25]]),
    }
    assert conditioning_hash(tensors) == "40d284b1519db626a0fdbef223418c0b"
