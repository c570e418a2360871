"""Generators of several layers: images equal those of their pipelines called with the prompt, and what differs is seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, Flux2KleinPipeline, Krea2Pipeline
from transformers import Qwen3ForCausalLM, Qwen3VLModel

from graftwork.conditioning.build import as_float32, put_together, without_pads
from graftwork.models.description import describe_model
from graftwork.models.encoder import EncodedSequence, Encoder
from graftwork.models.families import GeneratorFacts, generator_family
from graftwork.models.generator import Batch, BatchRow, assemble_batch
from graftwork.models.loading import load_generator
from graftwork.models.prompts import InputOptions
from graftwork.store.hidden_states import HiddenStates
from tests.small_generators import LAYERS, SEQUENCE, generator_entries, new_generator
from tests.unit.models.conftest import PROMPT, relative_distance

SEED = 7
SAMPLING = {"height": 32, "width": 48, "num_inference_steps": 4, "guidance_scale": 0.0}
# A control has to differ by so much more than what is allowed.
FACTOR = 100
# Mean distance of grey levels from those of the pipeline; what is allowed covers a rounding of one level in a thousand.
ALLOWED = 0.001


@dataclass
class Subject:
    """A generator of one family, its text encoder, and the pipeline that it is held against."""

    name: str
    entry: Mapping[str, Any]
    generator: Any
    encoder: Encoder
    pipeline: DiffusionPipeline
    arguments: Mapping[str, Any]

    @cached_property
    def facts(self) -> GeneratorFacts:
        return self.generator.facts

    @property
    def captions(self) -> Any:
        return generator_family(self.name).captions

    def encoded(self, prompt: str, layers: tuple[int, ...] = LAYERS, **changes: Any) -> EncodedSequence:
        options = InputOptions(
            system_prompt=self.captions.system_prompt,
            think_block=self.captions.think_block,
            padded_to=self.facts.caption_padding,
        )
        return self.encoder.encode(prompt, None, None, sorted(layers), replace(options, **changes))

    def caption(
        self, prompt: str, layers: tuple[int, ...] = LAYERS, dropped: int | None = None, **changes: Any
    ) -> torch.Tensor:
        """Returns the text alone as a job of conditioning makes it."""
        encoded = self.encoded(prompt, layers, **changes)
        dropped = self.captions.dropped_prefix if dropped is None else dropped
        parts = []
        for layer in layers:
            states = HiddenStates(
                encoded.hidden_states[layer].numpy(),
                "float32",
                encoded.token_ids,
                encoded.roles,
                encoded.positions,
                encoded.in_prompt,
            )
            text, pads = without_pads(states, dropped)
            parts.append(torch.cat([as_float32(text), pads]))
        return put_together(parts, self.captions.layout)

    def images(self, *captions: Any, seeds: list[int] | None = None, **changes: Any) -> np.ndarray:
        batch = Batch(list(captions), seeds or [SEED] * len(captions), **{**SAMPLING, **changes})
        images, finite = self.generator.generate(batch)
        assert finite.all()
        return images

    def expected(self, prompt: str = PROMPT, seed: int = SEED, **changes: Any) -> np.ndarray:
        image = self.pipeline(
            prompt=prompt,
            generator=torch.Generator("cpu").manual_seed(seed),
            **{**SAMPLING, **self.arguments, **changes},
        ).images[0]
        return np.asarray(image)


# What a pipeline is called with beside the prompt.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "flux2_klein": {"text_encoder_out_layers": LAYERS, "max_sequence_length": SEQUENCE},
    "krea2": {},
}
PIPELINES = {
    "flux2_klein": (Flux2KleinPipeline, Qwen3ForCausalLM),
    "krea2": (Krea2Pipeline, Qwen3VLModel),
}


def subject_of(name, folder, entries, hardware, encoder, **options) -> Subject:
    new_generator(name, **options).save_pretrained(folder / name)
    entry = generator_entries(folder)[name]
    text = entries["encoders"][entry["text_encoder"]]
    weights = f"{text['path']}/{text.get('subfolder', '')}"
    pipeline_class, text_class = PIPELINES[name]
    pipeline = pipeline_class.from_pretrained(
        folder / name,
        text_encoder=text_class.from_pretrained(weights, dtype=torch.float32).eval(),
        tokenizer=encoder.tokenizer,
        dtype=torch.float32,
    )
    pipeline.set_progress_bar_config(disable=True)
    generator = load_generator(name, entry, hardware)
    return Subject(name, entry, generator, encoder, pipeline, ARGUMENTS[name])


@pytest.fixture(scope="module", params=list(ARGUMENTS))
def subject(request, tmp_path_factory, entries, hardware, qwen3, vl):
    encoder = {"flux2_klein": qwen3, "krea2": vl}[request.param]
    folder = tmp_path_factory.mktemp("generators")
    return subject_of(request.param, folder, entries, hardware, encoder)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def test_the_text_alone_gives_the_image_of_the_pipeline(subject):
    for prompt in (PROMPT, "a house by the sea"):
        made = subject.images(subject.caption(prompt))[0]
        assert distance(made, subject.expected(prompt)) < ALLOWED
    assert distance(subject.expected(PROMPT), subject.expected("a house by the sea")) > FACTOR * ALLOWED


def test_the_caption_is_that_of_the_pipeline(subject):
    own = subject.caption(PROMPT)
    if subject.captions.padding == "visible":
        expected, _ = subject.pipeline.encode_prompt(PROMPT, **subject.arguments)
        assert torch.equal(own, expected[0])
    else:
        states, mask = subject.pipeline.encode_prompt(PROMPT)
        assert relative_distance(own, states[0][mask[0]]) < 1e-5


CONTROLS: dict[str, Callable[[Subject], torch.Tensor]] = {
    "a layer off by one": lambda s: s.caption(PROMPT, (1, 3, 4)),
    "layers in another order": lambda s: s.caption(PROMPT, (5, 3, 1)),
    "another think block": lambda s: s.caption(
        PROMPT, think_block={"template": "empty", "empty": "template"}[s.captions.think_block]
    ),
}
OF_ONE = {
    "flux2_klein": {
        "padding dropped": lambda s: s.caption(PROMPT, padded_to=0),
        "pads of another text": lambda s: torch.cat(
            [s.caption(PROMPT, padded_to=0), s.caption("a house")[len(s.caption(PROMPT, padded_to=0)) :]]
        ),
        "tokens in another order": lambda s: s.caption(PROMPT).flip(0),
        "one layer three times as large": lambda s: (
            s.caption(PROMPT) * torch.tensor([3.0, 1.0, 1.0]).repeat_interleave(64)
        ),
    },
    "krea2": {
        "the prefix kept": lambda s: s.caption(PROMPT, dropped=0),
        "no system turn": lambda s: s.caption(PROMPT, system_prompt=None, dropped=0),
        "another scale": lambda s: 2.0 * s.caption(PROMPT),
    },
}


def test_controls_differ_a_hundredfold(subject):
    expected = subject.expected()
    near = {
        name: distance(subject.images(make(subject))[0], expected)
        for name, make in {**CONTROLS, **OF_ONE[subject.name]}.items()
    }
    assert min(near.values()) > FACTOR * ALLOWED, near


def test_a_mask_that_is_ignored_is_seen(subject, monkeypatch):
    if subject.captions.padding != "masked":
        pytest.skip("pads are not masked")
    from graftwork.models.generators.krea2 import generator as module

    # The most pads that there are.
    short = subject.caption(PROMPT)[-3:]
    hidden, plain = subject.images(short)[0], module._mask
    monkeypatch.setattr(module, "_mask", lambda *given: torch.ones_like(plain(*given)))
    seen = subject.images(short)[0]
    assert distance(seen, hidden) > FACTOR * ALLOWED


def test_order_is_visible_as_the_family_says(subject):
    caption = subject.caption(PROMPT)
    changed = distance(subject.images(caption.flip(0))[0], subject.images(caption)[0])
    assert (changed > FACTOR * ALLOWED) == subject.captions.order_is_visible
    assert subject.captions.order_is_visible or changed <= ALLOWED


def test_a_row_does_not_depend_on_its_neighbours(subject):
    captions = [subject.caption(text) for text in (PROMPT, "a house", "a red bird in a tree")]
    lengths = {len(subject.generator.padding_row(len(caption))) for caption in captions}
    assert len(lengths) == 1, "they can share a batch"
    together = subject.images(*captions, seeds=[1, 2, 3])
    for row, caption in enumerate(captions):
        rows = [subject.generator.padding_row(len(caption))] * 3
        rows[row] = caption
        alone = subject.images(*rows, seeds=[9 if place != row else row + 1 for place in range(3)])
        assert np.array_equal(alone[row], together[row])
    assert distance(together[0], together[1]) > FACTOR * ALLOWED


def test_captions_of_other_shapes_and_lengths_are_refused(subject):
    caption = subject.caption(PROMPT)
    for wrong, message in (
        (caption[..., :5], "the transformer takes"),
        (caption[:0], "has 0 tokens"),
        (torch.ones(subject.facts.max_caption_tokens + 1, *caption.shape[1:]), "takes 1 to"),
    ):
        with pytest.raises(ValueError, match=message):
            subject.images(wrong)
    with pytest.raises(ValueError, match="padded lengths"):
        subject.images(caption, torch.ones(3, *caption.shape[1:]))
    with pytest.raises(
        ValueError, match=f"height 20 is not a positive multiple of {subject.facts.size_multiple}"
    ):
        subject.images(caption, height=20)
    with pytest.raises(ValueError, match="takes no init_image"):
        subject.images(caption, cfg_truncation=0.5, guidance_scale=1.0, negative_prompt_embeds=[caption])


def test_each_step_may_have_a_caption_of_its_own(subject):
    one, other = subject.caption(PROMPT), subject.caption("a house")
    if len(other) != len(one):
        other = one.roll(1, dims=-1)
    constant, changing = subject.images([one] * 4, [one, one, other, other])
    assert np.array_equal(constant, subject.images(one, one)[0])
    assert distance(constant, changing) > FACTOR * ALLOWED
    tensors = {
        "prompt_embeds": torch.stack([one, other]),
        "prompt_embeds_of_step": torch.tensor([0, 0, 1, 1]),
    }
    batch = assemble_batch([BatchRow(SEED, tensors)], SAMPLING, 2, subject.generator.padding_row)
    assert np.array_equal(subject.generator.generate(batch)[0][0], changing)


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_the_schedule_is_that_of_the_pipeline(subject, steps):
    subject.expected(num_inference_steps=steps)
    tokens = 32 * 48 // subject.facts.size_multiple**2
    sigmas = generator_family(subject.name).scheduler_sigmas
    own = sigmas(subject.facts.scheduler_config, steps, tokens, 0)
    assert torch.equal(own, subject.pipeline.scheduler.sigmas)
    assert torch.equal(sigmas(subject.facts.scheduler_config, steps, tokens, steps - 1), own[steps - 1 :])


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_guidance_is_that_of_the_pipeline(name, tmp_path, entries, hardware, qwen3, vl):
    """Of a checkpoint that is not distilled: positive + scale * (positive - negative), from another schedule."""
    encoder = {"flux2_klein": qwen3, "krea2": vl}[name]
    guided = subject_of(name, tmp_path, entries, hardware, encoder, is_distilled=False)
    caption, negative = guided.caption(PROMPT), guided.caption("")
    own = guided.images(caption, guidance_scale=1.5, negative_prompt_embeds=[negative])[0]
    theirs = guided.expected(guidance_scale={"flux2_klein": 2.5, "krea2": 1.5}[name])
    assert distance(own, theirs) < ALLOWED
    assert distance(own, guided.images(caption)[0]) > FACTOR * ALLOWED
    assert generator_family(name).sampling.guidance_problem(guided.facts) is None


def test_facts_and_weights_are_read_and_other_ones_refused(subject):
    entry = subject.entry
    facts = describe_model(entry, "generator", _path(entry))
    assert facts == subject.facts
    assert (facts.conditioning_layers, facts.caption_channels) == (LAYERS, 64)
    family = generator_family(subject.name)
    for part, module in (("transformer", subject.pipeline.transformer), ("vae", subject.pipeline.vae)):
        weights = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        for shapes in family.weight_shapes(_path(entry) / part):
            assert {name: weights.get(name) for name in shapes} == shapes
    with pytest.raises(ValueError, match="says nothing of family"):
        describe_model({**entry, "is_distilled": True}, "generator", _path(entry))
    with pytest.raises(ValueError, match=r"joint_attention_dim|num_text_layers"):
        describe_model({**entry, "text_hidden_layer": [1, 2, 3, 4, 5]}, "generator", _path(entry))


def _path(entry: Mapping[str, Any]) -> Path:
    return Path(entry["path"])
