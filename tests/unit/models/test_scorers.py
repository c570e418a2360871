"""Scorers: every value equals a plain call of the library on the same pixels, and small mistakes would show."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    CLIPModel,
    CLIPVisionModel,
    Dinov2Model,
    Qwen3VLForConditionalGeneration,
    SiglipModel,
)

from graftwork.core.errors import DesignError
from graftwork.models.catalog import ModelCatalog
from graftwork.models.description import describe_model
from graftwork.models.families import scorer_families
from graftwork.models.loading import load_scorer
from graftwork.models.scorer import (
    IMAGE_COSINE,
    TEXT_COSINE,
    TEXT_LOGIT,
    YES,
    Looked,
)
from tests.small_scorers import CLIP_LENGTH, SIDE, SIGLIP_LENGTH, build_small_scorers, make_small_judge

CPU = {"device": "cpu", "dtype": "float32"}
TEXT, LONG = "a Red Cat", "a very long text about a red cat, a blue dog and a house."
PARITY, FAR = 1e-4, 1e-2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorers")
    build_small_scorers(folder)
    make_small_judge(folder / "vqa")
    return folder


def picture(seed, size=(48, 40)):
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def looked(seed):
    return Looked(str(seed), picture(seed))


def load(folder, family):
    return load_scorer("mine", {"family": family, "path": str(folder / family)}, CPU)


def cosine(one, other):
    return float(torch.cosine_similarity(one.float(), other.float(), dim=-1))


def normalized(image, mean, std):
    """Pixels without the library's processor: float32 (1, 3, height, width)."""
    values = (np.asarray(image, dtype=np.float64) / 255 - np.array(mean)) / np.array(std)
    return torch.from_numpy(values).permute(2, 0, 1)[None].float()


def stretched(image):
    return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def cropped(image, shortest):
    """The middle of an image whose shortest side is so many pixels."""
    width, height = image.size
    scale = shortest / min(width, height)
    image = image.resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    return image.crop((left, top, left + SIDE, top + SIDE))


CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@torch.no_grad()
def test_siglip_is_a_plain_call_of_the_library(folder):
    scorer, path = load(folder, "siglip"), folder / "siglip"
    model = SiglipModel.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)

    def image(seed, mean=(0.5,) * 3):
        return model.get_image_features(normalized(stretched(picture(seed)), mean, (0.5,) * 3)).pooler_output[
            0
        ]

    def text(words, side="right", padding="max_length"):
        tokenizer.padding_side = side
        ids = tokenizer(
            [words], padding=padding, max_length=SIGLIP_LENGTH, truncation=True, return_tensors="pt"
        )
        return model.get_text_features(ids["input_ids"]).pooler_output[0]

    said = scorer.measure(TEXT_COSINE, looked(0), TEXT)
    assert said.value == pytest.approx(cosine(image(0), text(TEXT.lower())), abs=PARITY)
    assert not said.is_truncated
    # What would be wrong: left padding, none, capital letters, pixels that are not normalized.
    for wrong in (
        cosine(image(0), text(TEXT.lower(), "left")),
        cosine(image(0), text(TEXT.lower(), padding=False)),
        cosine(image(0), text(TEXT)),
        cosine(image(0, (0.0,) * 3), text(TEXT.lower())),
    ):
        assert abs(said.value - wrong) > FAR
    beside = scorer.measure(IMAGE_COSINE, looked(0), other=looked(1))
    assert beside.value == pytest.approx(cosine(image(0), image(1)), abs=PARITY)
    assert abs(beside.value - float(image(0) @ image(1))) > FAR, "not normalized"
    cut = scorer.measure(TEXT_COSINE, looked(0), LONG)
    assert cut.is_truncated
    assert cut.value == pytest.approx(cosine(image(0), text(LONG.lower())), abs=PARITY)


@torch.no_grad()
def test_clip_is_a_plain_call_of_the_library(folder):
    scorer, path = load(folder, "clip"), folder / "clip"
    model = CLIPModel.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    pixels = normalized(cropped(picture(0), SIDE), CLIP_MEAN, CLIP_STD)
    for words in (TEXT, LONG):
        ids = tokenizer([words], truncation=True, max_length=CLIP_LENGTH, return_tensors="pt")["input_ids"]
        output = model(input_ids=ids, pixel_values=pixels)
        said = scorer.measure(TEXT_LOGIT, looked(0), words)
        assert said.value == pytest.approx(float(output.logits_per_image), abs=PARITY)
        assert said.is_truncated == (words == LONG)
        plain = scorer.measure(TEXT_COSINE, looked(0), words).value
        assert said.value == pytest.approx(plain * float(model.logit_scale.exp()), abs=PARITY)
        assert abs(said.value - plain) > FAR
    other = model.get_image_features(
        normalized(cropped(picture(1), SIDE), CLIP_MEAN, CLIP_STD)
    ).pooler_output[0]
    own = model.get_image_features(pixels).pooler_output[0]
    assert scorer.measure(IMAGE_COSINE, looked(0), other=looked(1)).value == pytest.approx(
        cosine(own, other), abs=PARITY
    )
    squeezed = model.get_image_features(normalized(stretched(picture(1)), CLIP_MEAN, CLIP_STD)).pooler_output[
        0
    ]
    assert abs(cosine(own, squeezed) - cosine(own, other)) > FAR, "not cropped"


@torch.no_grad()
def test_dinov2_and_csd_are_plain_calls_of_the_library(folder):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    model = Dinov2Model.from_pretrained(folder / "dinov2").eval()
    outputs = [model(normalized(cropped(picture(seed), SIDE + 8), mean, std)) for seed in (0, 1)]
    said = load(folder, "dinov2").measure(IMAGE_COSINE, looked(0), other=looked(1)).value
    assert said == pytest.approx(cosine(*(one.pooler_output[0] for one in outputs)), abs=PARITY)
    patches = cosine(*(one.last_hidden_state[0, 1:].mean(0) for one in outputs))
    assert abs(said - patches) > FAR
    whole = [model(normalized(cropped(picture(seed), SIDE), mean, std)).pooler_output[0] for seed in (0, 1)]
    assert abs(said - cosine(*whole)) > FAR, "other margins"

    from safetensors.torch import load_file

    vision = CLIPVisionModel.from_pretrained(folder / "csd").eval()
    projection = load_file(folder / "csd" / "style.safetensors")["style_projection"]
    pooled = [
        vision(normalized(cropped(picture(seed), SIDE), CLIP_MEAN, CLIP_STD)).pooler_output[0]
        for seed in (0, 1)
    ]
    said = load(folder, "csd").measure(IMAGE_COSINE, looked(0), other=looked(1)).value
    assert said == pytest.approx(cosine(pooled[0] @ projection, pooled[1] @ projection), abs=PARITY)
    assert abs(said - cosine(*pooled)) > FAR


@torch.no_grad()
def test_the_judge_is_a_plain_call_of_the_library(folder):
    scorer, path = load(folder, "vqa"), folder / "vqa"
    model = Qwen3VLForConditionalGeneration.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    image = picture(0, (64, 96))
    said = scorer.measure(YES, Looked("x", image), TEXT)
    inputs = scorer.processor(images=[image], return_tensors="pt")
    tokens = int(inputs["image_grid_thw"].prod()) // 4
    pairs = (("Yes", "No"), ("yes", "no"), (" Yes", " No"))
    spelled = [[tokenizer(word)["input_ids"] for word in pair] for pair in pairs]

    def both(pair):
        return all(len(ids) == 1 for ids in pair)

    assert sum(map(both, spelled)) >= 2

    def probability(text, question='Does this figure show "{}"? Please answer yes or no.'):
        chat = (
            f"<|im_start|>user\n<|vision_start|>{'<|image_pad|>' * tokens}<|vision_end|>{question.format(text)}<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
        ids = tokenizer(chat, return_tensors="pt")["input_ids"]
        types = (ids == model.config.image_token_id).int()
        logits = model(input_ids=ids, mm_token_type_ids=types, **inputs).logits[0, -1]
        sums = [
            sum(logits[ids[0]] for ids in words)
            for words in zip(*(pair for pair in spelled if both(pair)), strict=True)
        ]
        return float(torch.stack(sums).softmax(0)[0])

    assert said.value == pytest.approx(probability(TEXT), abs=PARITY)
    assert 0.01 < said.value < 0.99
    assert abs(said.value - probability(TEXT[:4])) > FAR, "cut text"
    assert abs(said.value - probability(TEXT, "{}")) > FAR, "no question"
    with pytest.raises(ValueError, match="stands for an image"):
        scorer.measure(YES, Looked("x", image), "a <|image_pad|>")


def test_every_family_has_facts(folder):
    for family in scorer_families():
        facts = describe_model({"family": family}, "scorer", folder / family, "mine")
        assert facts.family == family
        assert facts.width in (24, 32, 64)


@pytest.mark.parametrize(
    ("family", "file", "edit", "message"),
    [
        ("siglip", "config.json", {"model_type": "clip"}, "model_type 'clip', not 'siglip'"),
        (
            "siglip",
            "preprocessor_config.json",
            {"size": {"height": 31, "width": 31}},
            "size.height is 31; 32",
        ),
        ("clip", "preprocessor_config.json", {"crop_size": {"height": 9, "width": 9}}, "crop_size"),
        ("clip", "config.json", {"projection_dim": 25}, "visual_projection.weight in the shape [25, 32]"),
        (
            "dinov2",
            "preprocessor_config.json",
            {"crop_size": {"height": 30, "width": 30}},
            "a multiple of patch_size 8",
        ),
        ("csd", "config.json", {"hidden_size": 64}, "style_projection"),
        ("vqa", "tokenizer.json", {"model": {"vocab": {}}, "added_tokens": []}, "no pair of 'Yes' and 'No'"),
    ],
)
def test_what_does_not_fit_together_is_refused_without_loading(folder, tmp_path, family, file, edit, message):
    import shutil

    copy = tmp_path / family
    shutil.copytree(folder / family, copy)
    content = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps({**content, **edit}))
    catalog = ModelCatalog(
        {"scorers": {"mine": {"family": family, "path": str(copy)}}}, "models.yaml", tmp_path
    )
    with pytest.raises(DesignError) as error:
        catalog.get("scorer", "mine", "here")
    assert "models.yaml: scorers.mine" in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"family": "siglip", "repo": "a/b"}, "revision 'None'"),
        ({"family": "siglip", "repo": "a/b", "revision": "main"}, "40 lower-case"),
        ({"family": "siglip", "repo": "a/b", "revision": "0" * 40}, "hf download a/b --revision"),
        ({"family": "siglip", "path": "nowhere"}, "does not exist"),
    ],
)
def test_scorers_that_are_not_here_are_refused(tmp_path, monkeypatch, entry, message):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    catalog = ModelCatalog({"scorers": {"mine": entry}}, "models.yaml", tmp_path)
    with pytest.raises(DesignError) as error:
        catalog.get("scorer", "mine", "here")
    assert "scorers.mine" in str(error.value)
    assert message.replace("'None'", "''") in str(error.value).replace("'None'", "''")
