"""Questions, headlines and tasks: their answers fit, and are decided by what is asked."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.scenes.captions import ABOUT, parse_caption
from graftwork.scenes.world import (
    ATTRIBUTES,
    VOCABULARY,
    Scene,
    all_scenes,
    held_out_kinds,
    sample_scenes,
)
from lab.miniature.tasks import (
    ANY_OBJECT,
    ANY_SETTING,
    QUESTIONS,
    TASKS,
    TEXT_TASKS,
    answer_question,
    complete_object,
    complete_setting,
    draw_scene_agreeing_with,
    ignore_picture,
    parse_answer,
    questions,
    write_headline,
)

SCENE = Scene("circle", "red", "large", "left", "blue", "plain")
SCENES = st.sampled_from(all_scenes())
ABOUTS = st.sampled_from(sorted(ABOUT))
SEEDS = st.integers(0, 2**32)


def parse_headline(text: str) -> dict[str, str]:
    """Returns what a headline states."""
    words = {attribute: f"(?P<{attribute}>{'|'.join(values)})" for attribute, values in VOCABULARY.items()}
    setting = "{background} {texture} background".format(**words)
    thing = "{size} {colour} {shape}, {position}".format(**words)
    match = re.fullmatch(f"(?:{ANY_SETTING}|{setting}), (?:{ANY_OBJECT}|{thing})", text)
    return {attribute: value for attribute, value in match.groupdict().items() if value is not None}


@given(SCENES, ABOUTS)
def test_a_headline_says_what_the_caption_says_and_no_more(scene, about):
    stated = parse_headline(write_headline(scene, about))
    assert stated == {attribute: getattr(scene, attribute) for attribute in ABOUT[about]}


@given(SCENES, ABOUTS, SEEDS)
def test_agreeing_scenes_share_what_is_stated_and_are_of_the_split(scene, about, seed):
    other = draw_scene_agreeing_with(scene, about, seed)
    assert all(getattr(other, attribute) == getattr(scene, attribute) for attribute in ABOUT[about])
    assert other == scene or not held_out_kinds(other)


@given(SCENES, SEEDS)
def test_pictures_complete_what_the_text_leaves_open(scene, seed):
    task = complete_object(scene, seed)
    said = parse_headline(task.answer)
    if not held_out_kinds(scene):
        assert (said["background"], said["texture"]) == (scene.background, scene.texture)
    assert scene.background not in task.prompt or scene.background in (said["colour"],)
    task = complete_setting(scene, seed)
    said = parse_headline(task.answer)
    if not held_out_kinds(scene):
        assert all(said[attribute] == getattr(scene, attribute) for attribute in ABOUT["object"])


@given(SCENES, SEEDS)
def test_a_full_caption_is_answered_whatever_the_picture_shows(scene, seed):
    task = ignore_picture(scene, seed)
    assert task.picture is not None
    assert parse_headline(task.answer) == {a: getattr(scene, a) for a in ATTRIBUTES}


@given(SCENES, SEEDS, st.sampled_from(sorted(TEXT_TASKS)))
def test_text_tasks_show_no_picture_and_depend_on_nothing_else(scene, seed, kind):
    task = TEXT_TASKS[kind](scene, seed)
    assert task.picture is None
    assert task == TEXT_TASKS[kind](scene, seed)


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


def test_what_is_not_known_is_named():
    with pytest.raises(ValueError, match=r"'sky' is not known; allowed: everything, object, setting"):
        write_headline(SCENE, "sky")
