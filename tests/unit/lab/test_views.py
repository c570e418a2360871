"""What judges are trained on: scenes that differ in what is asked for, pictures as processors give them, words where they stand."""

import numpy as np
import pytest
import torch
from PIL import Image

from graftwork.models.scorer import Looked
from graftwork.models.scorers.siglip import SiglipScorer
from graftwork.models.scorers.vqa import QUESTION, VqaScorer, answer_tokens
from graftwork.scenes.captions import ABOUT, parse_partial
from graftwork.scenes.reader import SceneReader
from graftwork.scenes.world import ATTRIBUTES, VOCABULARY, all_scenes, held_out_kinds, scene_index
from lab.miniature.sizes import SIZES, new_tokenizer
from lab.miniature.training.chat import render_prompt
from lab.miniature.training.judge import (
    WORDS,
    SeenPictures,
    answer,
    ask,
    enlarge,
    judge_processor,
    judge_tokenizer,
    new_judge,
    questions_batch,
    word_places,
)
from lab.miniature.training.likeness import (
    DINOV2_MEAN,
    DINOV2_STD,
    SIGLIP_MEAN,
    SIGLIP_STD,
    dinov2_processor,
    new_siglip,
    siglip_processor,
    to_ids,
    to_pixels,
)
from lab.miniature.training.views import (
    agreements,
    attribute_table,
    change_some,
    disturb,
    draw_relatives,
    pictures_of,
    split_places,
)
from lab.miniature.training.vision import IMAGE_TOKENS, cut_patches
from lab.small_parts import new_vision_language_model
from lab.small_vocabulary import QWEN3_VL_TEMPLATE


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer()


@pytest.mark.parametrize("count", [1, 3, 6])
def test_a_changed_scene_differs_in_so_many_attributes(count):
    rng = np.random.default_rng(0)
    for place in split_places("train")[::400]:
        other = change_some(int(place), ATTRIBUTES, count, rng)
        assert (attribute_table()[place] != attribute_table()[other]).sum() == count
        assert not held_out_kinds(all_scenes()[other])


def test_only_the_named_attributes_change():
    rng = np.random.default_rng(0)
    place = int(split_places("train")[17])
    for _ in range(20):
        other = change_some(place, ABOUT["setting"], 1, rng)
        changed = attribute_table()[place] != attribute_table()[other]
        assert {ATTRIBUTES[column] for column in np.flatnonzero(changed)} <= set(ABOUT["setting"])


def test_relatives_are_of_training_and_of_all_degrees():
    places = draw_relatives(np.random.default_rng(1), 200)
    pairs = agreements(places[::2], places[1::2])
    degrees = pairs.diagonal().T.sum(-1)
    assert set(degrees.tolist()) == {1, 2, 3, 4, 5}
    assert not any(held_out_kinds(all_scenes()[place]) for place in places)
    scene = all_scenes()[places[0]]
    assert scene_index(scene) == places[0]
    assert [VOCABULARY[a][i] for a, i in zip(ATTRIBUTES, attribute_table()[places[0]], strict=True)] == [
        getattr(scene, a) for a in ATTRIBUTES
    ]


def test_disturbed_pictures_show_the_same_scene():
    places = np.random.default_rng(2).choice(split_places("held_out"), 64)
    pictures = disturb(pictures_of(places), np.random.default_rng(3))
    assert not np.array_equal(pictures, pictures_of(places))
    reading = SceneReader().read(pictures)
    right = [reading.values[a] == attribute_table()[places][:, column] for column, a in enumerate(ATTRIBUTES)]
    assert np.mean(right) == 1.0


def test_pixels_are_those_of_the_processors():
    pictures = pictures_of(split_places("train")[:3])
    images = [Image.fromarray(picture) for picture in pictures]
    for processor, mean, std in (
        (siglip_processor(), SIGLIP_MEAN, SIGLIP_STD),
        (dinov2_processor(), DINOV2_MEAN, DINOV2_STD),
    ):
        wanted = processor(images=images, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(to_pixels(pictures, mean, std), wanted, atol=1e-5, rtol=0)


def test_pictures_are_enlarged_as_the_judge_s_processor_does():
    pictures = disturb(pictures_of(split_places("train")[:3]), np.random.default_rng(0))
    images = [Image.fromarray(picture) for picture in pictures]
    wanted = judge_processor()(images=images, return_tensors="pt")
    patches, grid = cut_patches(enlarge(pictures))
    assert torch.equal(grid, wanted["image_grid_thw"])
    # Pillow rounds between the two directions.
    assert (patches - wanted["pixel_values"]).abs().max() * 127.5 <= 3


def test_captions_are_read_as_the_scorer_reads_them(tokenizer):
    texts = list(ask(np.random.default_rng(0), split_places("train")[:40]).texts)
    scorer = SiglipScorer(new_siglip(tokenizer).eval(), tokenizer, siglip_processor())
    ids = to_ids(tokenizer, texts)
    with torch.no_grad():
        wanted = scorer.model.get_text_features(input_ids=ids).pooler_output
        for row, text in enumerate(texts):
            vector, is_cut = scorer.embed_text(text)
            assert not is_cut
            torch.testing.assert_close(vector, wanted[row], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="tokens; allowed: 32"):
        to_ids(tokenizer, ["a large red circle " * 10])


def test_the_judge_has_its_answers_as_single_tokens_and_reads_captions_as_before(tokenizer):
    own = judge_tokenizer(tokenizer)
    assert len(own) == len(tokenizer) + len(WORDS)
    assert answer_tokens(own) == ([len(tokenizer)], [len(tokenizer) + 1])
    with pytest.raises(ValueError, match="several tokens"):
        answer_tokens(tokenizer)
    for text in ask(np.random.default_rng(0), split_places("train")[:40]).texts:
        assert own(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_questions_are_those_of_the_scorer(tokenizer):
    own = judge_tokenizer(tokenizer)
    own.chat_template = QWEN3_VL_TEMPLATE
    question = QUESTION.format(text="a red circle")
    chat = own.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert chat.replace("<|image_pad|>", "<|image_pad|>" * IMAGE_TOKENS) == render_prompt(
        question, IMAGE_TOKENS
    )


@torch.no_grad()
def test_training_sees_what_the_scorer_sees(tokenizer):
    """Tokens of pictures that are computed once give the logits that the scorer gives."""
    own = judge_tokenizer(tokenizer)
    own.chat_template = QWEN3_VL_TEMPLATE
    torch.manual_seed(0)
    judge = new_judge(new_vision_language_model(SIZES, tokenizer), own).eval()
    for parameter in judge.parameters():
        if parameter.ndim >= 2:
            parameter.normal_(0.0, 0.6 / parameter.shape[-1] ** 0.5)
    pictures = pictures_of(split_places("train")[:2000:1000])
    seen = SeenPictures(judge, pictures)
    assert len(seen) == len(pictures)
    texts = ["a red circle", "a large green square on the left"]
    batch = questions_batch(own, texts, judge.config)
    logits, _ = answer(judge, batch, seen.of(np.arange(2)))
    swapped, _ = answer(judge, batch, seen.of(np.array([1, 0])))
    scorer = VqaScorer(judge, own, judge_processor())
    for row, text in enumerate(texts):
        wanted = scorer.answer_logits(Looked(str(row), Image.fromarray(pictures[row])), text)
        # Pillow rounds between the two directions of an enlargement.
        off = (logits[row] - wanted).abs().max()
        assert off < 0.05 * (swapped[row] - wanted).abs().max()


def test_words_are_found_where_they_stand_and_true_where_the_picture_has_it(tokenizer):
    own = judge_tokenizer(tokenizer)
    asked = ask(np.random.default_rng(5), split_places("train")[::120])
    rows, tokens, true = word_places(own, asked)
    prompts = [render_prompt(QUESTION.format(text=text), IMAGE_TOKENS) for text in asked.texts]
    for row, text in enumerate(asked.texts):
        shown, stated = all_scenes()[asked.pictures[row]], parse_partial(text)
        here = (rows == row).nonzero().squeeze(1)
        assert [bool(true[i]) for i in here] == [getattr(shown, a) == v for a, v in stated.items()]
        assert bool(true[here].all()) == bool(asked.is_true[row])
        ids = own(prompts[row])["input_ids"]
        words = {own.decode([ids[tokens[i]]]).strip() for i in here}
        others = {"little", "big", "middle"}
        assert words <= set(stated.values()) | others
        assert len(words) == len(stated)


def test_a_new_judge_has_the_first_layers_of_its_parent(tokenizer):
    own = judge_tokenizer(tokenizer)
    torch.manual_seed(0)
    parent = new_vision_language_model(SIZES, tokenizer)
    judge = new_judge(parent, own)
    weights, wanted = judge.state_dict(), parent.state_dict()
    name = "model.language_model.embed_tokens.weight"
    assert torch.equal(weights[name][: len(tokenizer)], wanted[name])
    assert len(weights[name]) == len(own)
    assert all(torch.equal(weights[n], wanted[n]) for n in weights if n not in (name, "lm_head.weight"))
    assert parent.config.text_config.num_hidden_layers == 12 > judge.config.text_config.num_hidden_layers
