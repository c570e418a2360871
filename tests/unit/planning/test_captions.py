"""Words for references: what is asked once, what waits for an answer, and what an answer decides."""

from dataclasses import replace

import pytest

from graftwork.planning.captions import captions_shard, missing_captions, needed_captions
from graftwork.planning.keys import UnknownWords
from graftwork.planning.plan import MergedDesigns
from graftwork.store.captions import read_caption, write_caption_file
from tests.unit.design.designs import experiment
from tests.unit.planning.fake_store import Situation

WORDS = {"questions": ["which colour?", "which pattern?"], "join": "{prompt}, {2} {1}", "max_new_tokens": 5}


@pytest.fixture
def situation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = experiment(
        {"hidden_layer": [-2, -4], "alpha": [0.0, 0.5]}, {"prompts": ["a", "b"], "seeds": [1, 2]}
    )
    return Situation(tmp_path, {**raw, "controls": ["words"], "words": WORDS})


def answer(situation, texts=("red", "dotted")):
    for caption in needed_captions(situation.designs, situation.hardware).values():
        text = texts[WORDS["questions"].index(caption.parts.question)]
        write_caption_file(situation.store, caption.parts, text)


def controls_of(situation):
    return {
        cell.cell: cell.parameters
        for design in situation.designs
        for cell in design.cells
        if cell.role == "control"
    }


def test_each_question_is_asked_once_of_each_reference(situation):
    captions = needed_captions(situation.designs, situation.hardware)
    references = {cell["reference"] for cell in controls_of(situation).values()}
    assert len(controls_of(situation)) == 2 * 2 * len(references)
    assert {(one.parts.reference, one.parts.question) for one in captions.values()} == {
        (reference, question) for reference in references for question in WORDS["questions"]
    }
    assert all(one.path for one in captions.values())


def test_nothing_of_a_control_is_planned_before_its_words_are_known(situation):
    plan = situation.plan_conditioning()
    answer(situation)
    later = situation.plan_conditioning()
    # Prompt by prompt, the text encoder is shown one text more for each reference.
    added = set(later.hidden_states) - set(plan.hidden_states)
    assert len(added) == len(
        {(cell["prompt"], cell["reference"]) for cell in controls_of(situation).values()}
    )
    assert later.missing_recipes == plan.missing_recipes + len(added)


def test_the_text_encoder_is_shown_prompt_and_answers(situation):
    cell = next(iter(controls_of(situation).values()))
    merged = MergedDesigns.of(situation.designs)
    with pytest.raises(UnknownWords):
        merged.keys(situation.hardware, situation.store).recipe(cell)
    answer(situation)
    keys = merged.keys(situation.hardware, situation.store)
    assert keys.prompt(cell) == f"{cell['prompt']}, dotted red"
    assert keys.text_states(cell).input.prompt == keys.prompt(cell)
    assert keys.recipe(cell) == keys.recipe({**cell, "prompt": keys.prompt(cell), "control": None})
    assert keys.negative_states({**cell, "guidance_scale": 2.0, "negative_prompt": "x"}).input.prompt == "x"


def test_another_answer_is_another_image_of_the_same_cell(situation):
    cell = next(iter(controls_of(situation).values()))
    recipes = []
    for texts in (("red", "dotted"), ("blue", "dotted")):
        answer(situation, texts)
        recipes.append(
            MergedDesigns.of(situation.designs).keys(situation.hardware, situation.store).recipe(cell)
        )
    assert recipes[0] != recipes[1]


def test_a_caption_that_failed_is_why_its_cells_have_no_image(situation):
    captions = list(needed_captions(situation.designs, situation.hardware))
    errors = {
        entry.error
        for name, entry in situation.plan_images({key: "too long" for key in captions}).cells.items()
        if name in controls_of(situation)
    }
    assert errors == {"its reference was not put into words: too long"}


def test_a_caption_of_another_name_is_none(situation):
    (first, *_), store = needed_captions(situation.designs, situation.hardware).items(), situation.store
    key, caption = first
    write_caption_file(store, caption.parts, "red")
    assert read_caption(store, key) == "red"
    other = replace(caption.parts, question="another").key
    store.caption(key).rename(store.caption(other))
    assert read_caption(store, other) is None
    assert other in missing_captions([other], store)


def test_the_job_of_captions_is_named_by_them_and_a_missing_one_is_written_again(situation):
    scope = situation.scope()
    captions = list(needed_captions(situation.designs, situation.hardware))
    assert scope.caption_shards == [captions_shard(captions)]
    assert f"{len(captions)} captions of references to write" in scope.describe()
    assert "controls" in scope.describe()
    answer(situation)
    situation.store.caption(captions[0]).write_text("{}")
    plan = situation.plan_conditioning()
    situation.extract()
    assert scope.damage(plan) == "1 captions are missing or damaged"


def test_an_experiment_without_such_controls_asks_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = Situation(tmp_path).scope()
    assert scope.caption_shards == []
    assert "captions" not in scope.describe()
    assert captions_shard([]) is None
