"""The measured table of the family: every promise with its number, and what else is worth knowing."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from diffusers import AutoencoderKL
from transformers import Qwen2Tokenizer, Qwen3ForCausalLM, Qwen3Model, Qwen3VLForConditionalGeneration

from graftwork.core.atomic import write_atomic
from graftwork.scenes.world import ATTRIBUTES, render_scenes, sample_scenes
from lab.miniature.evaluation import (
    Family,
    measure_flux2_prompt_following,
    measure_prompt_following,
    measure_sink,
)
from lab.miniature.sizes import FLUX2_STEPS
from lab.miniature.training.autoencoder import psnr, reconstruct
from lab.miniature.training.embedding import probe_embedding
from lab.miniature.training.text_encoder import probe_text_encoder
from lab.miniature.training.vision_language import probe_vision_language_model

LIMIT_BYTES = 40_000_000
FLUX2_LIMIT_BYTES = 15_000_000
PROMPT_FOLLOWING_LIMITS = {
    "colour": 0.95,
    "background": 0.95,
    "position": 0.90,
    "shape": 0.85,
    "size": 0.85,
    "texture": 0.85,
}


@dataclass(frozen=True)
class Measure:
    """One row of the table.

    Attributes:
        model: Which model of the family.
        name: Name of the measure.
        value: The number.
        promised: The smallest (or, where `at_most`, the largest) that is promised; None for information.
        at_most: Whether the promise is an upper limit.
        n: Scenes or captions that it was measured on; 0 where that does not apply.
    """

    model: str
    name: str
    value: float
    promised: float | None = None
    at_most: bool = False
    n: int = 0

    @property
    def kept(self) -> bool:
        """Whether the promise is kept; true where there is none."""
        if self.promised is None:
            return True
        return self.value <= self.promised if self.at_most else self.value >= self.promised


def measure_family(folder: Path, count: int = 256, say: Callable[[str], None] = print) -> list[Measure]:
    """Measures all models of a family, on scenes that training never saw.

    Args:
        folder: Family folder that `assemble_family` wrote.
        count: Scenes or captions for each measure.
        say: Takes a line when a part begins.
    """
    family = Family(folder)
    rows = [
        Measure("family", "megabytes", _bytes(folder) / 1e6, LIMIT_BYTES / 1e6, at_most=True),
        Measure(
            "flux2-klein",
            "megabytes",
            _bytes(folder / "flux2-klein") / 1e6,
            FLUX2_LIMIT_BYTES / 1e6,
            at_most=True,
        ),
    ]
    say("autoencoder")
    rows += measure_vae(folder, count)
    say("text encoder")
    text = (
        Qwen3ForCausalLM.from_pretrained(folder / "z-image" / "text_encoder", local_files_only=True)
        .float()
        .eval()
    )
    tokenizer = Qwen2Tokenizer.from_pretrained(folder / "z-image" / "tokenizer", local_files_only=True)
    limits = {"repeat": (0.95, False), "answer_loss": (0.05, True)}
    for name, value in probe_text_encoder(text, tokenizer, count).items():
        promised, at_most = limits.get(name, (None, False))
        rows.append(Measure("qwen3", name, value, promised, at_most, count))
    for variant in ("instruct", "thinking"):
        say(f"vision-language model, {variant}")
        model = Qwen3VLForConditionalGeneration.from_pretrained(
            folder / f"qwen3-vl-{variant}", local_files_only=True
        )
        probes = probe_vision_language_model(model.float().eval(), text, tokenizer, variant, count)
        for name, value in probes.items():
            # The thinking variant has to write its thought right as well: its attributes are for information.
            sees = name in ATTRIBUTES and variant == "instruct"
            promised = 0.9 if sees or name == "parent_cosine" else None
            rows.append(Measure(f"qwen3-vl-{variant}", name, value, promised, n=count))
    say("embedding model")
    embedding = Qwen3Model.from_pretrained(folder / "qwen3-embedding", local_files_only=True).float().eval()
    embedding_tokenizer = Qwen2Tokenizer.from_pretrained(folder / "qwen3-embedding", local_files_only=True)
    for name, value in probe_embedding(embedding, embedding_tokenizer, count).items():
        rows.append(Measure("qwen3-embedding", name, value, 0.9 if name == "retrieval" else None, n=count))
    rows += measure_pictures(folder, family, count, say)
    say("attention sinks")
    for encoder in ("qwen3", "qwen3-vl-instruct", "qwen3-vl-thinking"):
        for layer in measure_sink(family, encoder):
            ratio = layer["largest_at_position_0"] / layer["std_elsewhere"]
            promised, at_most = {-2: (50.0, False), -1: (10.0, True)}.get(layer["layer"], (None, False))
            rows.append(Measure(encoder, f"sink_ratio_layer_{layer['layer']}", ratio, promised, at_most))
    return rows


def measure_pictures(
    folder: Path, family: Family, count: int, say: Callable[[str], None] = print
) -> list[Measure]:
    """Measures how the pictures of both generators follow captions of held-out scenes.

    Args:
        folder: Family folder that `assemble_family` wrote.
        family: Its models.
        count: Captions for each measure.
        say: Takes a line when a part begins.
    """
    rows = []
    for encoder in ("qwen3", "qwen3-vl-instruct", "qwen3-vl-thinking"):
        say(f"pictures from {encoder}")
        for name, value in measure_prompt_following(family, encoder, count).items():
            promised = PROMPT_FOLLOWING_LIMITS[name] if encoder == "qwen3" else None
            if (encoder, name) == ("qwen3-vl-instruct", "background"):
                promised = 0.8
            rows.append(
                Measure(f"z-image after {encoder}", f"{name}_follows_prompt", value, promised, n=count)
            )
    for steps in (8, 4):
        say(f"pictures of the second generator, {steps} steps")
        for name, value in measure_flux2_prompt_following(folder, count, steps=steps).items():
            promised = PROMPT_FOLLOWING_LIMITS[name] if steps == FLUX2_STEPS else None
            rows.append(
                Measure(f"flux2-klein, {steps} steps", f"{name}_follows_prompt", value, promised, n=count)
            )
    return rows


def measure_vae(folder: Path, count: int) -> list[Measure]:
    """Measures how well pictures of held-out scenes survive encoding and decoding."""
    vae = (
        AutoencoderKL.from_pretrained(folder / "z-image", subfolder="vae", local_files_only=True)
        .float()
        .eval()
    )
    scenes = sample_scenes(3, count, "held_out")
    values = psnr(render_scenes(scenes), reconstruct(vae, scenes))
    return [
        Measure("vae", "psnr_mean_db", float(values.mean()), 30.0, n=count),
        Measure("vae", "psnr_lowest_db", float(values.min()), n=count),
    ]


def write_measures(rows: Iterable[Measure], target: Path) -> None:
    """Writes the table as JSON, with the six digits that the table for people is rounded from."""
    values = [asdict(row) | {"value": float(f"{row.value:.6g}")} for row in rows]
    write_atomic(target, json.dumps(values, indent=1) + "\n")


def read_measures(source: Path) -> list[Measure]:
    """Reads what `write_measures` wrote."""
    return [Measure(**row) for row in json.loads(source.read_text(encoding="utf-8"))]


def format_table(rows: Iterable[Measure]) -> str:
    """Returns the table in Markdown."""
    lines = ["| model | measure | value | promised | n |", "|---|---|---:|---:|---:|"]
    for row in rows:
        promised = (
            "" if row.promised is None else f"{'at most' if row.at_most else 'at least'} {row.promised:g}"
        )
        lines.append(
            f"| {row.model} | {row.name} | {row.value:.4g}{'' if row.kept else ' (missed)'} | {promised} | "
            f"{row.n or ''} |"
        )
    return "\n".join(lines) + "\n"


def _bytes(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
