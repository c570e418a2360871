"""Sinks of the miniature's embedding model: raw texts have further ones than at position 0."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from graftwork.conditioning.build import build_conditioning
from graftwork.models.hardware import configure_torch
from graftwork.models.loading import load_encoder
from graftwork.models.prompts import InputOptions
from graftwork.statistics.accumulator import summarize
from graftwork.statistics.compare import pearson
from graftwork.statistics.corpus import MeasuredCorpus, measure_corpus
from graftwork.statistics.sink import find_sinks
from graftwork.store.hidden_states import HiddenStates
from graftwork.transforms.dimension_fixes import fit_dimension_fix
from graftwork.transforms.registry import STAGES, transform
from tests.unit.jobs.recipes import as_recipe
from tests.unit.transforms.samples import DEFAULT_TRANSFORMS, defaults

REPOSITORY = Path(__file__).resolve().parents[3]
HARDWARE = {"device": "cpu", "dtype": "float32"}
LAYERS = (0, 2, 7, 11)
TEXT, EMBEDDING = "miniature-qwen3", "miniature-qwen3-embedding"
CORPUS = yaml.safe_load((REPOSITORY / "config/corpora/miniature.yaml").read_text())["prompts"]
# It begins with "at the": the second word is a sink as well.
PROMPT = CORPUS[2]


def encode(encoder, prompt: str, prompt_format: str) -> dict[int, HiddenStates]:
    encoded = encoder.encode(prompt, None, None, LAYERS, InputOptions(prompt_format=prompt_format))
    return {
        layer: HiddenStates(
            values.numpy(), "float32", encoded.token_ids, encoded.roles, encoded.positions, encoded.in_prompt
        )
        for layer, values in encoded.hidden_states.items()
    }


@pytest.fixture(scope="module")
def encoded() -> dict[str, dict[int, list[HiddenStates]]]:
    """Encoder -> layer -> inputs of the corpus."""
    configure_torch(HARDWARE)
    entries = yaml.safe_load((REPOSITORY / "config/models.yaml").read_text())["encoders"]
    found = {}
    for name, prompt_format in ((TEXT, "chat"), (EMBEDDING, "raw")):
        entry = entries[name] | {"path": str(REPOSITORY / entries[name]["path"])}
        encoder = load_encoder(name, entry, LAYERS, HARDWARE)
        inputs = [encode(encoder, prompt, prompt_format) for prompt in CORPUS]
        found[name] = {layer: [one[layer] for one in inputs] for layer in LAYERS}
    return found


def measured(inputs: list[HiddenStates]) -> MeasuredCorpus:
    return measure_corpus(map(str, range(len(inputs))), lambda key: inputs[int(key)], None)


def test_sinks_are_found_per_layer(encoded):
    by_layer = {
        layer: np.flatnonzero(find_sinks(inputs[2].values, inputs[2].roles)).tolist()
        for layer, inputs in encoded[EMBEDDING].items()
    }
    assert by_layer == {0: [0], 2: [0], 7: [0, 1], 11: [0, 1]}


def test_counts_over_the_corpus(encoded):
    assert not any(measured(inputs).sinks.places for inputs in encoded[TEXT].values())
    sinks = measured(encoded[EMBEDDING][11]).sinks
    assert (sinks.inputs_with, sinks.inputs, sinks.positions()) == (9, 36, {1: 9, 3: 2})


def test_a_fit_on_the_corpus_is_of_ordinary_tokens(encoded):
    """By position alone, dimension 4 was multiplied by 0.093, also in prompts without a second sink."""
    host = summarize(measured(encoded[TEXT][11]).classes["non_sink"])
    donor = summarize(measured(encoded[EMBEDDING][11]).classes["non_sink"])
    assert fit_dimension_fix("rescale", donor, host).scale[4] == 1.0
    by_position = np.concatenate([one.values[1:] for one in encoded[EMBEDDING][11]]).std(axis=0, ddof=1)
    assert host.std[4] / by_position[4] == pytest.approx(0.093, abs=0.001)
    # What is left is within a third of the tokens of inputs that have no further sink.
    clean = [one for one in encoded[EMBEDDING][11] if find_sinks(one.values, one.roles).sum() == 1]
    without = np.concatenate([one.values[1:] for one in clean]).std(axis=0, ddof=1)
    assert 1.0 < donor.std[4] / without[4] < 1.5
    assert pearson(by_position.astype(np.float64), host.std.astype(np.float64)) == pytest.approx(
        -0.112, abs=0.002
    )
    assert pearson(donor.std.astype(np.float64), host.std.astype(np.float64)) == pytest.approx(
        0.039, abs=0.002
    )


def recipe(**changes) -> dict:
    names = DEFAULT_TRANSFORMS | {
        stage: name for stage, name in changes.items() if stage in DEFAULT_TRANSFORMS
    }
    stages = {
        stage: {"name": names[stage], "parameters": defaults(transform(stage, names[stage])), "code": ""}
        for stage in STAGES
    }
    return {"text": ["t", 11], "sources": [["s", 11]], "dtype": "float32", "code": "", "alpha": 1.0, **stages}


def test_the_first_word_of_a_raw_prompt_is_aligned_and_its_sink_named(encoded):
    text, source = encoded[TEXT][11][2], encoded[EMBEDDING][11][2]
    # "user\nat" has a token of its own for what follows the line break, and so has "at" at the beginning of a text.
    assert source.in_prompt.tolist() == [True] * (len(source.roles) - 1) + [False]
    built = build_conditioning(
        as_recipe(recipe(blend="ensemble")), lambda key, layer: {"t": text, "s": source}[key]
    )
    first = int(np.flatnonzero(text.in_prompt)[0])
    assert text.token_ids[first] == source.token_ids[0]
    assert torch.equal(built.tensors["prompt_embeds"][first], torch.from_numpy(source.values[0]))
    (said,) = built.report.warnings
    assert said.startswith(
        "the source has 2 attention sinks among the tokens that take part, at position 0 (a word of the"
    )
    assert "1 (a word of the prompt, " in said


def test_an_input_without_further_sinks_is_warned_of_nothing(encoded):
    text = encoded[TEXT][11][2]
    built = build_conditioning(as_recipe(recipe(blend="linear")), lambda key, layer: text)
    assert built.report.warnings == ()
