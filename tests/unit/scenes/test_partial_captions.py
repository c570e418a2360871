"""Captions that leave something open, and their inverse."""

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.scenes.captions import ABOUT, PHRASINGS, parse_partial, write_caption, write_partial
from graftwork.scenes.world import ATTRIBUTES, VOCABULARY, Scene, all_scenes

SCENE = Scene("circle", "red", "large", "left", "blue", "plain")
SCENES = st.sampled_from(all_scenes())
SEEDS = st.integers(0, 2**32)


def stated(scene: Scene, about: str) -> dict[str, str]:
    return {attribute: value for attribute, value in asdict(scene).items() if attribute in ABOUT[about]}


@given(SCENES, st.sampled_from(list(ABOUT)), SEEDS)
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


@given(SCENES, st.sampled_from(list(ABOUT)), SEEDS)
def test_what_was_written_is_read_back(scene, about, seed):
    assert parse_partial(write_partial(scene, about, seed)) == stated(scene, about)


@pytest.mark.parametrize("about", ABOUT)
def test_every_wording_of_every_scene_is_read_back(about):
    seen = {}
    for number, scene in enumerate(all_scenes()):
        for seed in (number, number + 1, number + 2):
            caption = write_partial(scene, about, seed)
            assert seen.setdefault(caption, stated(scene, about)) == parse_partial(caption)


@given(SCENES, st.sampled_from(list(PHRASINGS)))
def test_full_captions_are_read_back_in_every_phrasing(scene, phrasing):
    assert parse_partial(write_caption(scene, phrasing)) == asdict(scene)


@given(SCENES, st.sampled_from(list(ABOUT)), SEEDS)
def test_case_and_space_are_no_matter_and_the_order_is_that_of_the_attributes(scene, about, seed):
    text = f"  {write_partial(scene, about, seed).upper()} ".replace(" ", " \n ")
    assert list(parse_partial(text).items()) == list(stated(scene, about).items())
    assert [a for a in ATTRIBUTES if a in ABOUT[about]] == list(parse_partial(text))


@given(SCENES, st.sampled_from(list(ABOUT)), SEEDS, st.data())
def test_cut_captions_are_not_taken_for_what_they_were(scene, about, seed, data):
    """A cut caption is refused, or is the caption of less: never one that states another value."""
    caption = write_partial(scene, about, seed)
    cut = caption[: data.draw(st.integers(0, len(caption) - 1))]
    try:
        found = parse_partial(cut)
    except ValueError:
        return
    assert found.items() < stated(scene, about).items()


@given(st.text(max_size=80))
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="no caption"):
        parse_partial(text)


@pytest.mark.parametrize(
    "text",
    [
        "a large red circle",
        "a large pink circle on the left",
        "a plain blue",
        "in the style of the picture",
        # Headlines, which the language models of the miniature write.
        "blue plain background, large red circle, left",
        "blue plain background, any object",
        "a large red circle on the left of a plain blue background and more",
    ],
)
def test_what_is_nearly_a_caption_is_refused(text):
    with pytest.raises(ValueError, match="no caption"):
        parse_partial(text)


def test_captions_of_invisible_objects_are_read():
    text = "a large red circle on the left of a plain red background"
    assert parse_partial(text)["colour"] == parse_partial(text)["background"] == "red"


def test_what_cannot_be_left_open_is_named():
    with pytest.raises(ValueError, match=r"'sky' is not known; allowed: everything, object, setting"):
        write_partial(SCENE, "sky", 0)
