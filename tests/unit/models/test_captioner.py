"""Answers about a picture: those of the miniature, which are right or wrong, and what is no answer."""

import pytest
from PIL import Image

from graftwork.core.code_digest import REPOSITORY
from graftwork.models.encoders.qwen3_vl.captioner import answer_in
from graftwork.models.loading import load_captioner
from graftwork.scenes.world import Scene, render_scene

HARDWARE = {"device": "cpu", "dtype": "float32", "cpu_threads": 1}
SHOWN = Scene("cross", "green", "small", "top", "yellow", "striped")
QUESTIONS = ("which pattern does the background have?", "which colour does the background have?")


def captioner(variant: str):
    path = REPOSITORY / f"resources/miniature/family/qwen3-vl-{variant}"
    return load_captioner("miniature", {"family": "qwen3_vl", "path": str(path)}, HARDWARE)


@pytest.mark.parametrize("variant", ["instruct", "thinking"])
def test_the_miniature_says_what_it_sees(variant):
    model, image = captioner(variant), Image.fromarray(render_scene(SHOWN, 128))
    answers = [model.answer(image, question, 48) for question in QUESTIONS]
    assert answers == ["striped", "yellow"]
    with pytest.raises(ValueError, match="does not end within 1 tokens"):
        model.answer(image, QUESTIONS[0], 1)


def test_an_encoder_of_text_writes_nothing():
    entry = {"family": "qwen3", "path": str(REPOSITORY / "resources/miniature/family/qwen3-embedding")}
    with pytest.raises(ValueError, match="takes no images"):
        load_captioner("embedding", entry, HARDWARE)


def test_a_thought_is_no_part_of_an_answer():
    assert answer_in("let me see\n</think>\n\nA red\nboat. ", "what?") == "A red boat."
    for text in ("", "a thought</think>\n", "<think> that does not end"):
        with pytest.raises(ValueError, match="no answer"):
            answer_in(text, "what?")
