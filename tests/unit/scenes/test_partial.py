import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.scenes.partial import (
    ABOUT,
    TEXT_TASKS,
    complete_object,
    complete_setting,
    draw_scene_agreeing_with,
    ignore_picture,
    parse_headline,
    write_headline,
    write_partial,
)
from graftwork.scenes.world import ATTRIBUTES, VOCABULARY, all_scenes, held_out_kinds

scenes = st.sampled_from(all_scenes())
abouts = st.sampled_from(sorted(ABOUT))
seeds = st.integers(0, 2**31)


@given(scenes, abouts)
def test_a_headline_says_what_the_caption_says_and_no_more(scene, about):
    stated = parse_headline(write_headline(scene, about))
    assert stated == {attribute: getattr(scene, attribute) for attribute in ABOUT[about]}


@given(scenes, abouts, seeds)
def test_a_partial_caption_contains_its_words_and_none_of_the_others(scene, about, seed):
    text = write_partial(scene, about, seed)
    assert text == write_partial(scene, about, seed)
    if about != "everything":
        words = set(text.replace(",", " ").replace(".", " ").split())
        for attribute in ATTRIBUTES:
            values = set(VOCABULARY[attribute])
            if attribute in ABOUT[about]:
                assert getattr(scene, attribute) in words
            elif attribute not in ("colour", "background"):
                assert not values & words


@given(scenes, abouts, seeds)
def test_agreeing_scenes_share_what_is_stated_and_are_of_the_split(scene, about, seed):
    other = draw_scene_agreeing_with(scene, about, seed)
    assert all(getattr(other, attribute) == getattr(scene, attribute) for attribute in ABOUT[about])
    assert other == scene or not held_out_kinds(other)


@given(scenes, seeds)
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


@given(scenes, seeds)
def test_a_full_caption_is_answered_whatever_the_picture_shows(scene, seed):
    task = ignore_picture(scene, seed)
    assert task.picture is not None
    assert parse_headline(task.answer) == {a: getattr(scene, a) for a in ATTRIBUTES}


@given(scenes, seeds, st.sampled_from(sorted(TEXT_TASKS)))
def test_text_tasks_show_no_picture_and_depend_on_nothing_else(scene, seed, kind):
    task = TEXT_TASKS[kind](scene, seed)
    assert task.picture is None
    assert task == TEXT_TASKS[kind](scene, seed)


def test_what_is_not_known_is_named():
    scene = all_scenes()[0]
    with pytest.raises(ValueError, match=r"'sky' is not known; allowed: everything, object, setting"):
        write_partial(scene, "sky", 0)
    with pytest.raises(ValueError, match="is no headline"):
        parse_headline("a red circle")
