"""What an encoder input is named by: every option where it takes part, and none where it says what is so anyway."""

import itertools
from dataclasses import replace

import pytest

from graftwork.core.records import to_json
from graftwork.design.cells import ModelRecord
from graftwork.design.parameters import NEUTRAL
from graftwork.design.schema import EncodingParameters, SourceParameters
from graftwork.design.settings import Hardware
from graftwork.models.prompts import CELL_OPTIONS, NEUTRAL_OPTIONS
from graftwork.planning.keys import Keys
from graftwork.planning.plan import MergedDesigns
from tests.unit.design.designs import expand, experiment
from tests.unit.planning.test_keys import ENCODER_FACTS, GENERATOR_FACTS


def model(family: str, rope_theta: float) -> ModelRecord:
    facts = replace(ENCODER_FACTS, family=family, rope_theta=rope_theta)
    return ModelRecord("encoder", "some name", {}, facts)


MODELS = {"host": model("qwen3", 1e6), "vl": model("qwen3_vl", 5e6), "embedding": model("qwen3", 1e6)}
MODELS["painter"] = ModelRecord("generator", "some name", {}, GENERATOR_FACTS)
CELL = {
    "generator": "painter",
    "prompt": "a red apple",
    "reference": "9" * 64,
    "text_encoder": "host",
    "text_hidden_layer": -2,
    "encoder": "vl",
    "hidden_layer": -2,
    "alpha": 0.5,
    "blend": "linear",
    **{name: NEUTRAL[name] for name in EncodingParameters.model_fields},
    "source": "hidden_states",
}
# Another value of every parameter of the encoder's side.
OTHERS = {
    "source_text": "none",
    "prompt_format": "raw",
    "system_prompt": "Be kind.",
    "think_block": {"text": "A house."},
    "rope_theta": 1e6,
    "positions": "sequential",
}
BEFORE = {"encoder", "prompt", "reference", "dtype", "device", "cpu_threads", "code"}


def keys() -> Keys:
    return Keys(MODELS, Hardware())


def source(**changes):
    return keys().source_states({**CELL, **changes})[0]


def text(**changes):
    return keys().text_states({**CELL, **changes})


def test_every_option_has_a_change_here():
    own = {name for name in EncodingParameters.model_fields if not name.startswith("text_")}
    assert set(OTHERS) == own
    assert set(CELL_OPTIONS) == own - {"source_text"}
    assert set(vars(NEUTRAL_OPTIONS)) == {*CELL_OPTIONS, "padded_to"}
    for name in CELL_OPTIONS:
        assert NEUTRAL[name] == getattr(NEUTRAL_OPTIONS, name)
    assert "source" in SourceParameters.model_fields


def test_neutral_options_are_not_in_a_key():
    """So that what was extracted before an option existed keeps its name."""
    for needed in (source(), text()):
        assert set(to_json(needed.input)) == BEFORE
        assert needed.input.options == NEUTRAL_OPTIONS
    old = {name: value for name, value in CELL.items() if name not in (*OTHERS, "source")}
    old = {name: value for name, value in old.items() if not name.startswith("text_p")}
    assert keys().source_states(old)[0].key == source().key
    assert keys().text_states(old).key == text().key


@pytest.mark.parametrize("name", OTHERS)
def test_an_option_changes_its_encoder_alone(name):
    changed = source(**{name: OTHERS[name]})
    assert changed.key != source().key
    assert changed.layer == source().layer
    assert text(**{name: OTHERS[name]}).key == text().key
    if name != "source_text":
        assert set(to_json(changed.input)) == BEFORE | {name}
        assert getattr(changed.input.options, name) == OTHERS[name]


@pytest.mark.parametrize("name", ["prompt_format", "system_prompt", "think_block"])
def test_an_option_of_the_text_changes_the_text_alone(name):
    changed = text(**{f"text_{name}": OTHERS[name]})
    assert set(to_json(changed.input)) == BEFORE | {name}
    assert source(**{f"text_{name}": OTHERS[name]}).key == source().key


def test_all_combinations_differ():
    seen = set()
    for chosen in itertools.product([False, True], repeat=len(OTHERS)):
        seen.add(source(**{n: v for (n, v), given in zip(OTHERS.items(), chosen, strict=True) if given}).key)
    assert len(seen) == 2 ** len(OTHERS)


def test_a_text_shown_in_place_of_the_prompt_is_one_input():
    given = {"text": "an old house"}
    one = source(source_text=given)
    assert one.input.prompt == "an old house"
    assert one.key == source(source_text=given, prompt="another").key == source(prompt="an old house").key
    assert source(source_text="none").input.prompt == ""
    assert source(source_text="none").key == source(source_text="none", prompt="another").key
    assert source(source_text={"text": "none"}).key != source(source_text="none").key
    assert text(source_text=given).input.prompt == "a red apple"


def test_what_the_checkpoint_does_anyway_is_no_other_input():
    assert source(rope_theta=5e6).key == source().key
    assert source(rope_theta=1e6).key != source().key
    assert source(encoder="embedding", rope_theta=1e6).key == source(encoder="embedding").key
    assert source(reference=None, positions="sequential").key == source(reference=None).key
    assert source(reference=None, rope_theta=1e6).key != source(reference=None).key


def test_the_vision_tower_sees_the_image_alone():
    tower = source(source="vision_tower")
    assert set(to_json(tower.input)) == BEFORE | {"source"}
    assert tower.input.prompt is None
    assert tower.layer == 0
    for change in ({"prompt": "another"}, {"hidden_layer": -5}, *({n: v} for n, v in OTHERS.items())):
        assert source(source="vision_tower", **change) == tower, change
    for change in ({"reference": "8" * 64}, {"encoder": "embedding"}):
        assert source(source="vision_tower", **change).key != tower.key
    assert tower.key not in (source().key, source(source_text="none").key)
    assert text(source="vision_tower").key == text().key


def test_encoders_of_an_axis_are_extracted_apart(tmp_path):
    design = expand(tmp_path, experiment({"encoder": ["vision", "other-vision"]}))
    names = MergedDesigns.of([design]).keys(Hardware())
    cells = [cell.parameters for cell in design.cells if cell.role == "cell"]
    origins = {names.source_states(cell)[0].input.encoder for cell in cells}
    assert origins == {"content:vision", "content:other-vision"}
    assert len({names.source_states(cell)[0].key for cell in cells}) == len(cells) == 4
    assert len({names.text_states(cell).key for cell in cells}) == 2
