"""Abilities of the family, measured through the adapters that experiments use."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import Flux2KleinPipeline
from PIL import Image
from transformers import Qwen2Tokenizer, Qwen3ForCausalLM

from graftwork.models.generator import Batch
from graftwork.models.loading import load_encoder, load_generator
from graftwork.scenes.captions import write_partial
from graftwork.scenes.reader import SceneReader
from graftwork.scenes.world import VOCABULARY, Scene, render_scenes, sample_scenes
from lab.miniature.family import miniature_entries
from lab.miniature.sizes import CONDITIONING_LAYER, FLUX2_STEPS, PICTURE_SIZE, REFERENCE_SIZE
from lab.miniature.training.flux2 import encode_prompts

CPU = {"device": "cpu", "dtype": "float32"}
STEPS = 8
BATCH = 32
# Of captions, so that every measurement asks for the same ones.
CAPTION_SEED = 3


class Family:
    """The models of a family folder, loaded when they are first asked for.

    Attributes:
        folder: Family folder that `assemble_family` wrote.
        hardware: Device and dtype to run on.
    """

    def __init__(self, folder: Path, hardware: Mapping[str, Any] = CPU) -> None:
        self.folder = Path(folder)
        self.hardware = hardware
        self._loaded: dict[str, Any] = {}
        self._entries = miniature_entries(self.folder)

    def encoder(self, name: str) -> Any:
        """Returns "qwen3", "qwen3-vl-instruct" or "qwen3-vl-thinking", with all its layers."""
        full = f"miniature-{name}"
        if full not in self._loaded:
            self._loaded[full] = load_encoder(full, self._entries["encoders"][full], None, self.hardware)
        return self._loaded[full]

    def generator(self) -> Any:
        """Returns the generator."""
        name = "miniature-z-image"
        if name not in self._loaded:
            self._loaded[name] = load_generator(name, self._entries["generators"][name], self.hardware)
        return self._loaded[name]


def encode_captions(
    encoder: Any,
    captions: Sequence[str],
    references: Sequence[Scene] | None = None,
    layer: int = CONDITIONING_LAYER,
) -> list[Any]:
    """Encodes captions, each with the picture of a scene if there are references; see `encoder.Encoder`."""
    total = _text_config(encoder).num_hidden_layers
    entry = layer % (total + 1)
    pictures: list[Image.Image | None] = [None] * len(captions)
    if references is not None:
        pictures = [Image.fromarray(p) for p in render_scenes(references, REFERENCE_SIZE)]
    return [
        encoder.encode(caption, picture, None, [entry])
        for caption, picture in zip(captions, pictures, strict=True)
    ]


def states_of(sequences: Sequence[Any]) -> list[torch.Tensor]:
    """Returns the only layer of encoded sequences: (tokens_i, channels) each, ragged."""
    return [next(iter(s.hidden_states.values())) for s in sequences]


def generate(generator: Any, states: Sequence[torch.Tensor], seed: int = 0, steps: int = STEPS) -> np.ndarray:
    """Makes one picture for each caption; row i starts from noise of seed * 1,000,000 + i.

    Returns:
        uint8 (captions, 64, 64, 3).
    """
    images: list[np.ndarray | None] = [None] * len(states)
    buckets: dict[int, list[int]] = {}
    for row, embeds in enumerate(states):
        buckets.setdefault(-(-len(embeds) // 32), []).append(row)
    for rows in buckets.values():
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            batch = Batch(
                [states[row] for row in part],
                [seed * 1_000_000 + row for row in part],
                height=PICTURE_SIZE,
                width=PICTURE_SIZE,
                num_inference_steps=steps,
                guidance_scale=0.0,
            )
            pictures, finite = generator.generate(batch)
            if not finite.all():
                raise FloatingPointError(f"{(~finite).sum()} of {len(part)} pictures are not finite")
            for row, picture in zip(part, pictures, strict=True):
                images[row] = picture
    return np.stack(images)


def attributes_right(images: np.ndarray, scenes: Sequence[Scene]) -> dict[str, float]:
    """Returns for each attribute how often the reader finds the scene's value in its picture."""
    reading = SceneReader().read(images)
    return {
        attribute: float(
            np.mean(
                [
                    reading.values[attribute][row] == values.index(getattr(scene, attribute))
                    for row, scene in enumerate(scenes)
                ]
            )
        )
        for attribute, values in VOCABULARY.items()
    }


def held_out_captions(count: int, about: str = "everything") -> tuple[list[Scene], list[str]]:
    """Returns scenes that training never saw, and a caption for each."""
    scenes = sample_scenes(11, count, "held_out")
    return scenes, [write_partial(scene, about, CAPTION_SEED) for scene in scenes]


def measure_prompt_following(family: Family, encoder: str, count: int, seed: int = 0) -> dict[str, float]:
    """Returns how often pictures of held-out captions show what the caption says, at alpha 1 of an encoder.

    For the text encoder this is alpha 0 of any experiment: its states go to the transformer as they are.
    """
    scenes, captions = held_out_captions(count)
    states = states_of(encode_captions(family.encoder(encoder), captions))
    return attributes_right(generate(family.generator(), states, seed), scenes)


def measure_flux2_prompt_following(
    folder: Path, count: int, seed: int = 0, steps: int = FLUX2_STEPS
) -> dict[str, float]:
    """Returns how often the second generator's pictures of held-out captions show what the caption says.

    Measured with the library's pipeline and the states that it makes of the captions.

    Args:
        folder: Family folder that `assemble_family` wrote.
        count: Captions.
        seed: Picture i starts from noise of seed * 1,000,000 + i.
        steps: Inference steps.
    """
    pipeline = load_flux2_pipeline(folder)
    scenes, captions = held_out_captions(count)
    pictures = []
    for start in range(0, count, BATCH):
        rows = range(start, min(start + BATCH, count))
        embeds = encode_prompts(pipeline.text_encoder, pipeline.tokenizer, [captions[row] for row in rows])
        result = pipeline(
            prompt_embeds=embeds,
            generator=[torch.Generator("cpu").manual_seed(seed * 1_000_000 + row) for row in rows],
            height=PICTURE_SIZE,
            width=PICTURE_SIZE,
            num_inference_steps=steps,
            guidance_scale=1.0,
            output_type="np",
        )
        pictures.append((result.images * 255).round().astype(np.uint8))
    return attributes_right(np.concatenate(pictures), scenes)


def load_flux2_pipeline(folder: Path) -> Flux2KleinPipeline:
    """Returns the second generator's pipeline with the text encoder and the tokenizer of the first, float32."""
    first = Path(folder) / "z-image"
    text_encoder = Qwen3ForCausalLM.from_pretrained(first / "text_encoder", local_files_only=True)
    pipeline = Flux2KleinPipeline.from_pretrained(
        Path(folder) / "flux2-klein",
        text_encoder=text_encoder.float().eval().requires_grad_(False),
        tokenizer=Qwen2Tokenizer.from_pretrained(first / "tokenizer", local_files_only=True),
        dtype=torch.float32,
        local_files_only=True,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def measure_sink(family: Family, encoder: str, count: int = 16) -> list[dict[str, float]]:
    """Returns for each entry of `hidden_states` the largest activation at position 0 and the std elsewhere."""
    _, captions = held_out_captions(count)
    model = family.encoder(encoder)
    total = _text_config(model).num_hidden_layers
    rows = []
    encoded = [model.encode(caption, None, None, list(range(total + 1))) for caption in captions]
    for layer in range(total + 1):
        states = [e.hidden_states[layer].float() for e in encoded]
        rest = torch.cat([s[1:] for s in states])
        rows.append(
            {
                "layer": layer - total - 1,
                "largest_at_position_0": float(states[0][0].abs().max()),
                "std_elsewhere": float(rest.std()),
            }
        )
    return rows


def _text_config(encoder: Any) -> Any:
    config = encoder.model.config
    return getattr(config, "text_config", config)
