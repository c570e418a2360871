"""Keys of statistics: every ingredient counts, nothing else does, and recipes have what makes their statistics."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from graftwork.core.identity import digest
from graftwork.core.records import record_digest, to_json
from graftwork.design.cells import CorpusRecord
from graftwork.design.schema import CellParameters
from graftwork.design.settings import Hardware
from graftwork.models.prompts import NEUTRAL_OPTIONS, InputOptions
from graftwork.planning import code as code_module
from graftwork.planning.inputs import statistics_of
from graftwork.planning.keys import Keys, corpus_inputs
from graftwork.store.records import CorpusStatistics, FileStatistics
from tests.unit.planning.test_keys import CELL, MODELS, SOURCE, TEXT
from tests.unit.transforms.samples import DEFAULT_TRANSFORMS

PROMPTS, REFERENCES = ["a hat", "a boat"], ["1" * 64, "2" * 64]


def corpus(prompts: list[str], references: list[str]) -> CorpusRecord:
    return CorpusRecord("some name", tuple(prompts), tuple(references))


CORPORA = {
    "plain": corpus(PROMPTS, REFERENCES),
    "turned": corpus(PROMPTS[::-1], REFERENCES),
    "longer": corpus([*PROMPTS, "a house"], REFERENCES),
    "other picture": corpus(PROMPTS, ["1" * 64, "3" * 64]),
    "texts": corpus(PROMPTS, []),
}
FOR_SOURCE = {
    **CellParameters().model_dump(),
    **CELL,
    **DEFAULT_TRANSFORMS,
    "prompt_format": "chat",
    "system_prompt": None,
    "think_block": "template",
}
CORPUS = {"corpus": "plain", "encoder": TEXT, "hidden_layer": -2, "tokens": "prompt"}


def models() -> dict[str, Any]:
    changed = deepcopy(MODELS)
    facts = replace(changed[SOURCE].facts, accepts_images=True, rope_theta=5e6)
    changed[SOURCE] = replace(changed[SOURCE], facts=facts)
    return changed


def keys(**extraction: Any) -> Keys:
    hardware = Hardware()
    for name, value in extraction.items():
        setattr(hardware.extraction, name, value)
    return Keys(models(), hardware, CORPORA)


def key(corpus="plain", encoder=SOURCE, layer=-2, options=None, covariance_of=None, **extraction) -> str:
    return (
        keys(**extraction)
        .statistics(corpus, encoder, layer, InputOptions(**options or {}), covariance_of)
        .key
    )


def cell(**values: Any) -> dict[str, Any]:
    return {**FOR_SOURCE, **values}


@pytest.mark.parametrize(
    "change",
    [
        {"corpus": "turned"},
        {"corpus": "longer"},
        {"corpus": "other picture"},
        {"corpus": "texts"},
        {"encoder": TEXT},
        {"layer": -3},
        {"options": {"system_prompt": "Be kind."}},
        {"options": {"rope_theta": 1e6}},
        {"options": {"positions": "sequential"}},
        {"covariance_of": "prompt"},
        {"dtype": "bfloat16"},
        {"device": "cuda"},
    ],
    ids=repr,
)
def test_every_ingredient_counts(change):
    assert key(**change) != key()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"layer": 7}),
        ({}, {"options": {"rope_theta": 5e6}}),
        ({}, {"options": {"prompt_format": "chat", "system_prompt": None}}),
        ({"encoder": TEXT}, {"encoder": TEXT, "corpus": "texts"}),
        ({"encoder": TEXT}, {"encoder": TEXT, "options": {"positions": "sequential"}}),
        ({"covariance_of": "prompt"}, {"covariance_of": "prompt"}),
    ],
)
def test_what_is_the_same_has_one_key(one, other):
    assert key(**one) == key(**other)


def test_the_code_counts(monkeypatch):
    monkeypatch.setattr(code_module, "code_digest", lambda *entries: digest(list(entries)))
    plain = key()
    edited = "graftwork.statistics.corpus:measure_corpus"
    monkeypatch.setattr(
        code_module,
        "code_digest",
        lambda *entries: digest([f"{entry} edited" if entry == edited else entry for entry in entries]),
    )
    assert key() != plain


def test_a_key_is_the_digest_of_inputs_layer_and_code():
    found = keys().statistics("plain", SOURCE, -2, NEUTRAL_OPTIONS)
    assert set(to_json(found.parts)) == {"inputs", "layer", "code"}
    assert found.key == record_digest(found.parts)
    assert (found.corpus, found.encoder, found.options) == ("plain", SOURCE, NEUTRAL_OPTIONS)
    assert found.parts.layer == 7
    assert found.parts.inputs == tuple(need.key for need in found.inputs)


def test_inputs_are_prompts_times_references_in_the_order_of_the_file():
    assert corpus_inputs(CORPORA["plain"], True) == [(p, r) for p in PROMPTS for r in REFERENCES]
    assert corpus_inputs(CORPORA["plain"], False) == [(p, None) for p in PROMPTS]
    assert corpus_inputs(CORPORA["texts"], True) == [(p, None) for p in PROMPTS]
    found = [need.input for need in keys().statistics("turned", SOURCE, -2, NEUTRAL_OPTIONS).inputs]
    assert [(one.prompt, one.reference) for one in found] == [
        (p, r) for p in PROMPTS[::-1] for r in REFERENCES
    ]


def test_inputs_are_those_that_cells_have():
    """One extraction for a prompt of a cell and of a corpus."""
    own = keys().text_states(cell(prompt="a boat"))
    assert own.key in [need.key for need in keys().statistics("plain", TEXT, -2, NEUTRAL_OPTIONS).inputs]


@pytest.mark.parametrize(
    ("stage", "name"),
    [("normalization", n) for n in ("per_dim", "hybrid", "rms", "whiten")]
    + [("masking", n) for n in ("zero", "mean", "clamp", "scale", "clip")],
)
def test_a_recipe_has_the_key_and_the_token_class(stage, name):
    chosen = cell(**{stage: name}, statistics=CORPUS)
    covariance = "prompt" if name == "whiten" else None
    expected = CorpusStatistics(key(encoder=TEXT, covariance_of=covariance), "prompt")
    found = keys().recipe(chosen).stages[stage]
    assert found.corpus_statistics == {"statistics": expected}
    assert "statistics" not in found.parameters
    plain = keys().recipe(cell(**{stage: name})).stages[stage]
    assert plain.parameters["statistics"] == "prompt"
    assert plain.corpus_statistics == {}
    assert list(statistics_of([chosen], keys())) == [expected.key]


def test_options_in_the_cell_are_those_of_the_corpus():
    options = {"system_prompt": "Be kind."}
    chosen = cell(normalization="per_dim", statistics={**CORPUS, "options": options})
    found = keys().recipe(chosen).stages["normalization"].corpus_statistics["statistics"]
    assert found.key == key(encoder=TEXT, options=options) != key(encoder=TEXT)


def test_a_file_is_in_the_recipe_by_its_content():
    chosen = cell(normalization="per_dim", statistics={"npz": "5" * 64, "tokens": 220})
    found = keys().recipe(chosen).stages["normalization"]
    assert found.file_statistics == FileStatistics("5" * 64, 220)
    assert "statistics" not in found.parameters
    assert statistics_of([chosen], keys()) == {}


@pytest.mark.parametrize(("tokens", "of_host"), [("prompt", "prompt"), ("image", "non_sink")])
def test_a_fix_takes_the_encoder_and_the_host_as_the_cell_shows_them(tokens, of_host):
    chosen = cell(
        dimension_fix="full",
        fix_corpus="plain",
        fix_tokens=tokens,
        hidden_layer=-4,
        text_hidden_layer=-3,
        text_system_prompt="Be kind.",
    )
    donor = key(layer=-4, options={"rope_theta": 1e6, "positions": "sequential"})
    host = key(encoder=TEXT, layer=-3, options={"system_prompt": "Be kind."})
    found = keys().recipe(chosen).stages["dimension_fix"]
    assert found.parameters == {"fix_tokens": tokens}
    assert found.corpus_statistics == {
        "donor": CorpusStatistics(donor, tokens),
        "host": CorpusStatistics(host, of_host),
    }
    assert set(statistics_of([chosen], keys())) == {donor, host}


def test_what_is_not_chosen_needs_no_statistics():
    idle = cell(statistics=CORPUS, fix_corpus="plain")
    assert statistics_of([idle], keys()) == {}
    assert keys().recipe(idle) == keys().recipe(cell())
    text_alone = cell(
        statistics=CORPUS, normalization="whiten", dimension_fix="full", fix_corpus="plain", alpha=0.0
    )
    assert statistics_of([text_alone], keys()) == {}
    assert not keys().recipe(text_alone).stages
