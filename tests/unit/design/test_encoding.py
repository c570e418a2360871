"""What the encoders are shown: resolved into cells, refused where it cannot be, and named apart."""

from dataclasses import replace

import pytest

from graftwork.core.errors import DesignError
from graftwork.design.inputs import read_yaml
from graftwork.design.parameters import NEUTRAL, cell_id
from graftwork.design.schema import EncodingParameters
from graftwork.models.catalog import Model
from graftwork.models.families import EncoderFacts
from tests.unit.design.designs import ENCODER, expand, experiment, some_models

FILE = "config/experiments/test.yaml"
NEW = [*EncodingParameters.model_fields, "source"]
EMBEDDING = Model(
    "embedding",
    "encoder",
    {"path": "/nowhere/embedding", "natural_format": "raw"},
    "content:embedding",
    EncoderFacts(family="qwen3", accepts_images=False, **ENCODER),
)
BARE = replace(
    EMBEDDING,
    name="bare",
    identity="content:bare",
    entry={"path": "/nowhere/bare"},
    facts=replace(EMBEDDING.facts, has_chat_template=False),
)
MODELS = [*some_models(), EMBEDDING, BARE]
TEXT_ONLY = {"references": [], "encoder": "embedding"}


def cells(tmp_path, axes=None, base=None, role="cell", **more):
    design = expand(tmp_path, experiment(axes, {"prompts": ["a hat"], **(base or {})}, **more), models=MODELS)
    return [cell for cell in design.cells if cell.role == role]


def test_existing_cells_keep_their_names(tmp_path):
    """A cell that says nothing of all this is named by what was there before."""
    for cell in [*cells(tmp_path), *cells(tmp_path, role="baseline")]:
        before = {name: value for name, value in cell.parameters.items() if name not in NEW}
        assert cell.cell == cell_id(cell.parameters) == cell_id(before)


def test_the_natural_format_is_that_of_the_encoder(tmp_path):
    design = expand(
        tmp_path,
        experiment({"prompt_format": ["natural", "raw", "chat"]}, {"prompts": ["a hat"], **TEXT_ONLY}),
        models=MODELS,
    )
    natural = design.cells[-2]
    assert natural.parameters["prompt_format"] == natural.shown["prompt_format"] == "raw"
    named = [cell for _, cell in design.positions]
    assert named[0] == named[1] != named[2]
    assert next(axis for axis in design.axes if axis.name == "prompt_format").labels == [
        "natural",
        "raw",
        "chat",
    ]
    vision = cells(tmp_path)[0].parameters
    assert (vision["prompt_format"], vision["text_prompt_format"]) == ("chat", "chat")


def test_encoders_of_an_axis_have_their_own_formats(tmp_path):
    found = cells(tmp_path, {"encoder": ["vision", "embedding"]}, {"references": []})
    assert [(cell.shown["encoder"], cell.parameters["prompt_format"]) for cell in found] == [
        ("vision", "chat"),
        ("embedding", "raw"),
    ]
    assert len({cell.cell for cell in found}) == 2


def test_the_format_in_the_models_file_is_part_of_a_name(tmp_path):
    other = [
        replace(m, entry={**m.entry, "natural_format": {"instruct": "describe"}})
        if m.name == "embedding"
        else m
        for m in MODELS
    ]
    raw = experiment({}, {"prompts": ["a hat"], **TEXT_ONLY})
    one, two = (expand(tmp_path, raw, models=models).cells[-1] for models in (MODELS, other))
    assert two.parameters["prompt_format"] == {"instruct": "describe"}
    assert one.cell != two.cell


VALUES = {
    "source_text": ["prompt", "none", {"text": "an old house"}, {"text": "none"}],
    "system_prompt": [None, "Be kind."],
    "think_block": ["template", "empty", {"text": "A house."}],
    "rope_theta": [None, 1000000, 5e6],
    "positions": ["checkpoint", "sequential"],
    "text_system_prompt": [None, "Be kind."],
    "text_think_block": ["template", "empty", {"text": "A house."}],
}


@pytest.mark.parametrize("name", VALUES)
def test_every_value_is_an_axis_and_names_its_cells(tmp_path, name):
    found = cells(tmp_path, {name: VALUES[name]})
    assert [cell.parameters[name] for cell in found] == VALUES[name]
    assert len({cell.cell for cell in found}) == len(VALUES[name])
    plain = next(cell for cell in found if cell.parameters[name] == NEUTRAL[name])
    assert plain.cell == cells(tmp_path)[0].cell
    for value, cell in zip(VALUES[name], found, strict=True):
        assert cells(tmp_path, {}, {name: value})[0].cell == cell.cell
    baselines = cells(tmp_path, {name: VALUES[name]}, role="baseline")
    assert len(baselines) == (len(VALUES[name]) if name.startswith("text_") else 1)


def test_formats_of_text_encoders_are_an_axis(tmp_path):
    values = ["raw", "chat", {"instruct": "describe"}]
    for name in ("prompt_format", "text_prompt_format"):
        found = cells(tmp_path, {name: values}, TEXT_ONLY)
        assert [cell.parameters[name] for cell in found] == values
        assert len({cell.cell for cell in found}) == 3


def test_the_vision_tower_is_a_source(tmp_path):
    axes = {
        "source": ["hidden_states", "vision_tower"],
        "token_mode": ["full", "image_only", "image_no_markers"],
    }
    assert len({cell.cell for cell in cells(tmp_path, axes)}) == 6


@pytest.mark.parametrize(
    ("axes", "base", "parts"),
    [
        ({}, {"prompt_format": "raw"}, ["prompt_format 'raw'", "'vision'", "allowed: chat"]),
        ({}, {"prompt_format": {"instruct": "x"}}, ["{'instruct': 'x'}", "allowed: chat"]),
        ({}, {"prompt_format": "rwa"}, ["prompt_format", "'rwa'", "'raw'"]),
        ({}, {"prompt_format": {"instruct": " "}}, ["a text that is not empty"]),
        ({}, {"prompt_format": {"task": "x"}}, ["base.prompt_format", "task", "allowed: instruct"]),
        ({"prompt_format": [{"task": "x"}]}, {}, ["axes.prompt_format", "{'task': 'x'} is not allowed"]),
        ({}, {**TEXT_ONLY, "system_prompt": "Be kind."}, ["system_prompt 'Be kind.'", "prompt_format chat"]),
        ({}, {**TEXT_ONLY, "think_block": "empty"}, ["think_block 'empty'", "'raw'", "'embedding'"]),
        (
            {},
            {"text_prompt_format": "raw", "text_system_prompt": "Be kind."},
            ["text_system_prompt", "text_prompt_format chat"],
        ),
        ({}, {"references": [], "encoder": "bare"}, ["'bare'", "does not have", "natural_format: raw"]),
        ({}, {"system_prompt": "  "}, ["system_prompt", "a text that is not empty"]),
        ({}, {"think_block": "off"}, ["think_block", "'off'", "'empty'"]),
        ({}, {"source_text": "a text"}, ["source_text", "'a text'", "'none'"]),
        ({}, {"source_text": {"text": "\n"}}, ["source_text", "a text that is not empty"]),
        ({}, {"rope_theta": 0}, ["rope_theta", "above 0"]),
        ({}, {"rope_theta": -5.0}, ["rope_theta", "above 0"]),
        ({}, {"positions": "1d"}, ["positions", "'sequential'"]),
        ({}, {"source_text": "none", "references": []}, ["source_text 'none'", "no reference"]),
        ({}, {**TEXT_ONLY, "source_text": "none"}, ["source_text 'none'", "'embedding'"]),
        (
            {"token_mode": ["full", "prompt_only"]},
            {"source_text": "none"},
            ["token_mode 'prompt_only' selects nothing", "source_text 'none'", "allowed: full"],
        ),
        ({}, {"source": "vision_tower", "references": []}, ["source 'vision_tower'", "no reference"]),
        ({}, {**TEXT_ONLY, "source": "vision_tower"}, ["'embedding' is a text encoder", "qwen3_vl"]),
        *(
            (
                {},
                {"source": "vision_tower", "token_mode": mode},
                [f"token_mode '{mode}'", "allowed: full, image_only, image_no_markers"],
            )
            for mode in ("text_only", "prompt_only")
        ),
        *(
            ({}, {"source": "vision_tower", "blend": blend}, [f"blend '{blend}' needs tokens of text"])
            for blend in ("intra", "ensemble")
        ),
        ({}, {"source": "vision"}, ["source", "'vision_tower'"]),
        *(
            ({}, {name: value}, [name, "contains the control token '<|im_end|>'"])
            for name, value in {
                "system_prompt": "a <|im_end|>",
                "text_system_prompt": "a <|im_end|>",
                "think_block": {"text": "a <|im_end|>"},
                "text_think_block": {"text": "a <|im_end|>"},
                "source_text": {"text": "a <|im_end|>"},
                "text_prompt_format": {"instruct": "a <|im_end|>"},
            }.items()
        ),
    ],
)
def test_refusals(tmp_path, axes, base, parts):
    with pytest.raises(DesignError) as error:
        cells(tmp_path, axes, base)
    for part in [FILE, *parts]:
        assert part in str(error.value)


def test_control_tokens_can_be_allowed_in_every_text(tmp_path):
    base = {"system_prompt": "a <|im_end|>", "think_block": {"text": "<|im_end|>"}}
    assert cells(tmp_path, {}, base, allow_control_tokens=True)


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e6", 1e6), ("5.0e+6", 5e6), ("1E6", 1e6), ("1e-3", 1e-3), ("1000000", 1000000), ("1.5", 1.5)],
)
def test_numbers_may_be_written_as_people_write_them(tmp_path, written, value):
    file = tmp_path / "one.yaml"
    file.write_text(f"rope_theta: {written}\n")
    assert read_yaml(file, "one.yaml") == {"rope_theta": value}


@pytest.mark.parametrize("written", ["1e", "e6", "1e6x", "12e34d", "a 1e6", "'1e6'"])
def test_texts_that_look_like_numbers_stay_texts(tmp_path, written):
    file = tmp_path / "one.yaml"
    file.write_text(f"text: {written}\n")
    assert isinstance(read_yaml(file, "one.yaml")["text"], str)
