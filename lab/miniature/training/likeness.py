"""Judges of likeness: a SigLIP that compares pictures with captions, and a DINOv2 that compares pictures with pictures.

Cosines are to order likeness. Attributes of scenes are known, so both are supervised: the cosine of two pictures is regressed to
the share of the six attributes that agree, which 31 directions, one for each value of an attribute, have exactly. Linear heads
read the attributes from the vectors, which teaches them sooner; they are not kept. The published DINOv2 is trained on pictures
alone; this one is not, and stands for its class and its use only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import Dinov2Config, Dinov2Model, Qwen2Tokenizer, SiglipConfig, SiglipModel
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from graftwork.scenes.captions import ABOUT, write_partial
from graftwork.scenes.world import ATTRIBUTES, VOCABULARY, all_scenes
from graftwork.statistics.compare import spearman
from lab.miniature.sizes import PICTURE_SIZE
from lab.miniature.training.loop import TrainingRun, fit, step_rng
from lab.miniature.training.views import (
    agreements,
    attribute_table,
    change_some,
    disturb,
    draw_relatives,
    pictures_of,
    split_places,
)

WIDTH, LAYERS, HEADS, PATCH = 96, 3, 3, 8
# The longest caption has 27 tokens.
TEXT_TOKENS = 32
# What captions of a batch speak of, and how often.
SPEAKS_OF = {"everything": 0.6, "object": 0.2, "setting": 0.2}
GRADED_WEIGHT = 20.0
HEAD_SCALE = 10.0
# As published: the sigmoid begins far below its middle, because most pairs do not belong together.
FIRST_SCALE, FIRST_BIAS = 10.0, -10.0
_VISION = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "image_size": PICTURE_SIZE,
    "patch_size": PATCH,
}
# Mean and standard deviation of each class's published processor.
SIGLIP_MEAN, SIGLIP_STD = [0.5] * 3, [0.5] * 3
DINOV2_MEAN, DINOV2_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def new_siglip(tokenizer: Qwen2Tokenizer) -> SiglipModel:
    """Returns a SigLIP for captions of the world, with the libraries' own weights."""
    sizes = {**_VISION, "intermediate_size": 2 * WIDTH}
    model = SiglipModel(
        SiglipConfig(
            text_config={
                "hidden_size": WIDTH,
                "num_hidden_layers": LAYERS,
                "num_attention_heads": HEADS,
                "intermediate_size": 2 * WIDTH,
                "projection_size": WIDTH,
                "vocab_size": len(tokenizer),
                "max_position_embeddings": TEXT_TOKENS,
                "pad_token_id": tokenizer.pad_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                "bos_token_id": None,
            },
            vision_config=sizes,
        )
    )
    with torch.no_grad():
        model.logit_scale.fill_(np.log(FIRST_SCALE))
        model.logit_bias.fill_(FIRST_BIAS)
    return model


def new_dinov2() -> Dinov2Model:
    """Returns a DINOv2 for pictures of the world, whose weights begin as those of the SigLIP do.

    The library's own have a spread of 0.02, meant for widths of 768 and more: with them position stayed at chance for 1,600 steps.
    """
    model = Dinov2Model(Dinov2Config(**_VISION, mlp_ratio=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in ("embeddings.position_embeddings", "embeddings.cls_token"):
                parameter.normal_(0.0, WIDTH**-0.5)
            elif parameter.ndim >= 2 and name != "embeddings.mask_token":
                # Of a convolution, the patch is one vector.
                torch.nn.init.xavier_uniform_(parameter.flatten(1))
    return model


def siglip_processor() -> SiglipImageProcessorPil:
    """Returns the image processor of the SigLIP."""
    size = {"height": PICTURE_SIZE, "width": PICTURE_SIZE}
    return SiglipImageProcessorPil(size=size, image_mean=SIGLIP_MEAN, image_std=SIGLIP_STD)


def dinov2_processor() -> BitImageProcessorPil:
    """Returns the image processor of the DINOv2; nothing is cut off, for objects stand near the border."""
    size = {"height": PICTURE_SIZE, "width": PICTURE_SIZE}
    return BitImageProcessorPil(
        size={"shortest_edge": PICTURE_SIZE},
        crop_size=size,
        resample=3,
        image_mean=DINOV2_MEAN,
        image_std=DINOV2_STD,
    )


def to_pixels(pictures: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Returns uint8 (n, 64, 64, 3) as the image processors give them: float32 (n, 3, 64, 64)."""
    x = torch.from_numpy(pictures).float().div(255)
    return x.sub(torch.tensor(mean)).div(torch.tensor(std)).permute(0, 3, 1, 2).contiguous()


def to_ids(tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """Returns texts as the scorer of the family `siglip` gives them to the model: int64 (texts, TEXT_TOKENS).

    Raises:
        ValueError: If a text does not fit.
    """
    ids = torch.full((len(texts), TEXT_TOKENS), tokenizer.pad_token_id, dtype=torch.int64)
    for row, tokens in enumerate(tokenizer(list(texts))["input_ids"]):
        if len(tokens) > TEXT_TOKENS:
            raise ValueError(f"{texts[row]!r} has {len(tokens)} tokens; allowed: {TEXT_TOKENS}")
        ids[row, : len(tokens)] = torch.tensor(tokens)
    return ids


def embed_pictures(model: Any, pictures: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """Returns unit vectors of pictures, uint8 (n, 64, 64, 3), by a SigLIP or a DINOv2: float32 (n, WIDTH)."""
    if isinstance(model, Dinov2Model):
        pixels = to_pixels(pictures, DINOV2_MEAN, DINOV2_STD).to(device)
        vectors = model(pixel_values=pixels).last_hidden_state[:, 0]
    else:
        pixels = to_pixels(pictures, SIGLIP_MEAN, SIGLIP_STD).to(device)
        vectors = model.get_image_features(pixel_values=pixels).pooler_output
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def embed_captions(
    model: SiglipModel, tokenizer: Any, texts: Sequence[str], device: str = "cpu"
) -> torch.Tensor:
    """Returns unit vectors of captions: float32 (texts, WIDTH)."""
    vectors = model.get_text_features(input_ids=to_ids(tokenizer, texts).to(device)).pooler_output
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def graded(own: torch.Tensor, other: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Returns the mean squared error of cosines of unit vectors against what they should be, (own, other)."""
    return (own @ other.T - wanted.to(own.device)).square().mean()


class _WithHeads(torch.nn.Module):
    """A judge and the heads that read attributes from its vectors, those of pictures and of captions alike."""

    def __init__(self, judge: torch.nn.Module) -> None:
        super().__init__()
        self.judge = judge
        self.head = torch.nn.Linear(WIDTH, sum(map(len, VOCABULARY.values())))

    def reading_loss(
        self, vectors: torch.Tensor, places: np.ndarray, stated: np.ndarray | None = None
    ) -> torch.Tensor:
        """Returns the cross entropy of attributes, summed over the six.

        Args:
            vectors: unit vectors, (n, WIDTH).
            places: indexes of the scenes that they stand for, (n,).
            stated: which attributes count, bool (n, 6); all by default.
        """
        values = torch.from_numpy(attribute_table()[places]).to(vectors.device)
        counts = torch.ones(values.shape) if stated is None else torch.from_numpy(stated).float()
        total = torch.zeros((), device=vectors.device)
        # Unit vectors are short for a head that begins small.
        logits = self.head(HEAD_SCALE * vectors).split([len(v) for v in VOCABULARY.values()], dim=-1)
        for column, part in enumerate(logits):
            losses = torch.nn.functional.cross_entropy(part, values[:, column], reduction="none")
            weight = counts[:, column].to(vectors.device)
            total = total + (losses * weight).sum() / weight.sum().clamp(min=1)
        return total


def train_siglip(model: SiglipModel, tokenizer: Any, run: TrainingRun) -> None:
    """Trains with the sigmoid loss on full captions, and graded cosines of pictures with captions and with pictures.

    A full caption belongs to a picture where all six attributes agree. The cosine with a caption that states k
    attributes is regressed to (those that agree) / sqrt(6 k), what vectors with one direction for each value have.
    """
    both = _WithHeads(model).to(run.device)
    model.set_attn_implementation(run.attention)

    def losses(step: int) -> Mapping[str, torch.Tensor]:
        rng = step_rng(run.recipe.seed, step)
        places = draw_relatives(rng, run.recipe.batch_size)
        about = rng.choice(list(SPEAKS_OF), size=len(places), p=list(SPEAKS_OF.values()))
        seeds = rng.integers(0, 2**31, size=len(places))
        texts = [
            write_partial(all_scenes()[place], str(kind), int(seed))
            for place, kind, seed in zip(places, about, seeds, strict=True)
        ]
        seen = embed_pictures(model, disturb(pictures_of(places), rng), run.device)
        read = embed_captions(model, tokenizer, texts, run.device)
        agree = agreements(places, places)
        stated = np.array([[a in ABOUT[kind] for a in ATTRIBUTES] for kind in about])
        shares = (agree & stated[None]).sum(-1) / np.sqrt(len(ATTRIBUTES) * stated.sum(-1))[None]
        with_captions = graded(seen, read, torch.from_numpy(shares).float())
        with_pictures = graded(seen, seen, torch.from_numpy(agree.mean(-1)).float())
        full = torch.from_numpy(about == "everything").to(run.device)
        belongs = torch.from_numpy(agree.all(-1)).to(run.device)[:, full]
        logits = model.logit_scale.exp() * (seen @ read[full].T) + model.logit_bias
        signs = belongs.float() * 2 - 1
        # Summed over the pairs of a picture, as published.
        sigmoid = -torch.nn.functional.logsigmoid(signs * logits).sum() / len(places)
        heads = both.reading_loss(seen, places) + both.reading_loss(read, places, stated)
        return {
            "loss": sigmoid + GRADED_WEIGHT * (with_captions + with_pictures) + heads,
            "sigmoid": sigmoid,
            "heads": heads,
            "with_captions": with_captions,
            "with_pictures": with_pictures,
        }

    fit(both, losses, run)


def train_dinov2(model: Dinov2Model, run: TrainingRun) -> None:
    """Trains cosines of pictures to the share of attributes that agree: supervised, not as the published one."""
    both = _WithHeads(model).to(run.device)
    model.set_attn_implementation(run.attention)

    def losses(step: int) -> Mapping[str, torch.Tensor]:
        rng = step_rng(run.recipe.seed, step)
        places = draw_relatives(rng, run.recipe.batch_size)
        seen = embed_pictures(model, disturb(pictures_of(places), rng), run.device)
        error = graded(seen, seen, torch.from_numpy(agreements(places, places).mean(-1)).float())
        heads = both.reading_loss(seen, places)
        return {"loss": GRADED_WEIGHT * error + heads, "heads": heads, "with_pictures": error}

    fit(both, losses, run)


@torch.no_grad()
def probe_pictures(model: Any, count: int = 256, device: str = "cpu") -> dict[str, float]:
    """Returns how cosines of disturbed pictures of scenes that were never trained on order likeness.

    Returns:
        "likeness": Spearman of the cosine with the number of attributes that agree, over pairs of scenes of which one is held
        out; "same_scene": mean cosine of two pictures of one scene; for each attribute, "sees_...": how often the cosine to the
        scene itself is above that to one that differs in this attribute alone.
    """
    model.eval()
    rng = np.random.default_rng(7)
    places = rng.choice(split_places("held_out"), size=count, replace=count > len(split_places("held_out")))
    others = np.array([change_some(int(p), ATTRIBUTES, int(rng.integers(1, 7)), rng, "all") for p in places])
    seen = _embed(model, places, rng, device)
    agree = (agreements(places, others).diagonal().T).sum(-1)
    measured = {
        "likeness": spearman((seen * _embed(model, others, rng, device)).sum(-1).numpy(), agree),
        "same_scene": float((own := (seen * _embed(model, places, rng, device)).sum(-1)).mean()),
    }
    for attribute in ATTRIBUTES:
        near = np.array([change_some(int(p), [attribute], 1, rng, "all") for p in places])
        measured[f"sees_{attribute}"] = float(
            (own > (seen * _embed(model, near, rng, device)).sum(-1)).float().mean()
        )
    return measured


@torch.no_grad()
def probe_siglip(
    model: SiglipModel, tokenizer: Any, count: int = 256, device: str = "cpu"
) -> dict[str, float]:
    """Returns what `probe_pictures` does, and how cosines with captions order them.

    Returns:
        Besides: "captions": Spearman of the cosine with a full caption with the number of attributes that agree; for each
        attribute "reads_...": how often the caption of the scene is nearer than one that differs in this attribute alone;
        "reads_partial": the same for captions of the object or the setting that are true or wrong in one attribute.
    """
    measured = probe_pictures(model, count, device)
    rng = np.random.default_rng(8)
    places = rng.choice(split_places("held_out"), size=count, replace=count > len(split_places("held_out")))
    seen = _embed(model, places, rng, device)

    def cosines(about: Sequence[str], captioned: np.ndarray) -> torch.Tensor:
        texts = [
            write_partial(all_scenes()[place], kind, row)
            for row, (place, kind) in enumerate(zip(captioned, about, strict=True))
        ]
        return (seen * embed_captions(model, tokenizer, texts, device)).sum(-1)

    full = ["everything"] * count
    others = np.array([change_some(int(p), ATTRIBUTES, int(rng.integers(1, 7)), rng, "all") for p in places])
    agree = agreements(places, others).diagonal().T.sum(-1)
    measured["captions"] = spearman(cosines(full, others).numpy(), agree)
    right = cosines(full, places)
    for attribute in ATTRIBUTES:
        near = np.array([change_some(int(p), [attribute], 1, rng, "all") for p in places])
        measured[f"reads_{attribute}"] = float((right > cosines(full, near)).float().mean())
    about = ["object" if row % 2 else "setting" for row in range(count)]
    near = np.array(
        [change_some(int(p), ABOUT[kind], 1, rng, "all") for p, kind in zip(places, about, strict=True)]
    )
    measured["reads_partial"] = float((cosines(about, places) > cosines(about, near)).float().mean())
    return measured


def _embed(model: Any, places: np.ndarray, rng: np.random.Generator, device: str) -> torch.Tensor:
    parts = [
        embed_pictures(model, disturb(pictures_of(places[start : start + 64]), rng), device).cpu()
        for start in range(0, len(places), 64)
    ]
    return torch.cat(parts)
