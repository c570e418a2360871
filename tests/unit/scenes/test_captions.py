"""Full captions and their inverse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.scenes.captions import (
    PHRASINGS,
    draw_phrasing,
    parse_attributes,
    parse_caption,
    write_caption,
)
from graftwork.scenes.world import (
    VOCABULARY,
    Scene,
    all_scenes,
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


def test_all_words_are_lower_case_letters():
    texts = [write_caption(SCENE, phrasing) for phrasing in PHRASINGS]
    texts += [word for values in VOCABULARY.values() for word in values]
    assert all(set(text) <= set("abcdefghijklmnopqrstuvwxyz ,.") for text in texts)
