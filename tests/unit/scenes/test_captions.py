"""Captions and their inverse, questions and tasks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.scenes.captions import (
    PHRASINGS,
    QUESTIONS,
    TASKS,
    answer_question,
    draw_phrasing,
    parse_answer,
    parse_attributes,
    parse_caption,
    questions,
    write_caption,
)
from graftwork.scenes.world import (
    ATTRIBUTES,
    VOCABULARY,
    Scene,
    all_scenes,
    held_out_kinds,
    sample_scenes,
)

SCENE = Scene("circle", "red", "large", "left", "blue", "plain")
SCENES = st.sampled_from(all_scenes())
SEEDS = st.integers(0, 2**32)


@pytest.mark.parametrize("phrasing", PHRASINGS)
def test_every_caption_of_every_scene_is_read_back(phrasing):
    captions = [write_caption(scene, phrasing) for scene in all_scenes()]
    assert len(set(captions)) == len(captions)
    assert [parse_caption(caption) for caption in captions] == list(all_scenes())


@pytest.mark.parametrize("phrasing", PHRASINGS)
def test_no_caption_belongs_to_two_phrasings(phrasing):
    for scene in all_scenes()[::31]:
        caption = write_caption(scene, phrasing)
        assert [name for name, each in PHRASINGS.items() if each.parse(caption)] == [phrasing]


def test_the_first_phrasing_reads_as_people_write():
    assert write_caption(SCENE) == "a large red circle on the left of a plain blue background"


def test_unknown_phrasings_are_refused():
    with pytest.raises(ValueError, match=r"'haiku'.*object_first"):
        write_caption(SCENE, "haiku")


def test_phrasings_are_all_drawn():
    assert {draw_phrasing(scene, 0) for scene in all_scenes()[:200]} == set(PHRASINGS)


def test_case_and_space_are_no_matter():
    assert parse_caption(" A large red circle\non the left of a plain  blue background ") == SCENE


def test_captions_of_invisible_objects_are_read_by_attribute_only():
    text = "a large red circle on the left of a plain red background"
    assert parse_attributes(text)["background"] == "red"
    with pytest.raises(ValueError, match="cannot be seen"):
        parse_caption(text)


@given(st.text(max_size=80))
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="not a full caption"):
        parse_caption(text)


@given(SCENES, st.sampled_from(list(PHRASINGS)), st.data())
def test_cut_captions_are_refused(scene, phrasing, data):
    caption = write_caption(scene, phrasing)
    with pytest.raises(ValueError, match="not a full caption"):
        parse_caption(caption[: data.draw(st.integers(0, len(caption) - 1))])


@given(SCENES, SEEDS)
def test_questions_ask_for_every_attribute_once(scene, seed):
    asked = questions(scene, seed)
    assert asked == questions(scene, seed)
    for attribute, (question, answer) in zip(ATTRIBUTES, asked, strict=True):
        assert question in QUESTIONS[attribute]
        assert parse_answer(attribute, f" {answer.upper()}. ") == getattr(scene, attribute)


def test_wordings_of_questions_differ_and_answers_are_told_apart():
    wordings = [wording for each in QUESTIONS.values() for wording in each]
    assert len(set(wordings)) == len(wordings)
    assert answer_question(SCENE, "position") == "on the left"
    assert parse_answer("position", "red") is None


@pytest.mark.parametrize("kind", TASKS)
@given(scene=SCENES, seed=SEEDS)
def test_tasks_have_answers_that_fit(kind, scene, seed):
    task = TASKS[kind](scene, seed)
    assert task == TASKS[kind](scene, seed)
    assert task.kind == kind
    assert task.picture in (scene, None)
    if kind.startswith("answer"):
        assert any(parse_answer(a, task.answer) == getattr(task.target, a) for a in ATTRIBUTES)
    else:
        assert parse_caption(task.answer) == task.target
    changed = {a for a in ATTRIBUTES if getattr(scene, a) != getattr(task.target, a)}
    if kind == "change":
        assert len(changed) == 1
    elif kind == "borrow_style":
        assert changed
        assert changed <= {"shape", "colour", "size", "position"}
    elif kind == "borrow_object":
        assert changed
        assert changed <= {"background", "texture"}
    else:
        assert not changed


@pytest.mark.parametrize("kind", TASKS)
def test_training_tasks_do_not_give_held_out_scenes_away(kind):
    assert not any(held_out_kinds(TASKS[kind](s, 5).target) for s in sample_scenes(5, 800, "train"))


@pytest.mark.parametrize("kind", TASKS)
def test_prompts_decide_the_answer(kind):
    answers = {}
    for scene in sample_scenes(6, 1500, "all"):
        task = TASKS[kind](scene, 6)
        assert answers.setdefault((task.picture, task.prompt), task.answer) == task.answer


def test_all_words_are_lower_case_letters():
    texts = [write_caption(SCENE, phrasing) for phrasing in PHRASINGS]
    texts += [word for values in VOCABULARY.values() for word in values]
    assert all(set(text) <= set("abcdefghijklmnopqrstuvwxyz ,.") for text in texts)
