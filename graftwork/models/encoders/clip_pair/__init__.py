"""The two CLIP text encoders of SDXL, as its pipeline reads them: the prompt encoder of a baseline, not the source of a graft.

There is one entry of `hidden_states`, 0: for each of 77 tokens the last layer but one of both, side by side, and then a row with
the pooled text, filled up with zeros.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftwork.models.config_files import ConfigFile
from graftwork.models.families import WEIGHT_PATTERNS, EncoderFacts, EncoderFamily, ModelFolder

# Folders of the pipeline: (weights and config, tokenizer).
PARTS = (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2"))
_TOKENIZER = (
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
)


def folders(entry: Mapping[str, Any]) -> tuple[ModelFolder, ...]:
    """Returns the files of both, in the folder of the pipeline."""
    own = entry.get("subfolder") or ""
    return tuple(
        part
        for weights, tokenizer in PARTS
        for part in (
            ModelFolder(
                str(Path(own, weights)), ("config.json", *WEIGHT_PATTERNS), ("config.json",), has_weights=True
            ),
            ModelFolder(str(Path(own, tokenizer)), _TOKENIZER, ("vocab.json", "merges.txt")),
        )
    )


def read_facts(folder: Path, tokenizer: Path) -> EncoderFacts:
    """Returns the facts of the pair, from the configurations of both."""
    configs = [ConfigFile(folder / weights / "config.json") for weights, _ in PARTS]
    width = sum(config.whole("hidden_size") for config in configs)
    if configs[1].whole("projection_dim") > width:
        raise configs[1].wrong("projection_dim", f"at most {width}, the width of both encoders,")
    return EncoderFacts(
        family=FAMILY.name,
        num_hidden_layers=0,
        hidden_size=width,
        accepts_images=False,
        rope_theta=None,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        has_chat_template=False,
    )


def weight_shapes(folder: Path) -> list[dict[str, tuple[int, ...]]]:
    """Returns the weights of one of the two that decide its size."""
    config = ConfigFile(folder / "config.json")
    width, inner = config.whole("hidden_size"), config.whole("intermediate_size")
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.token_embedding.weight": (config.whole("vocab_size"), width),
        "final_layer_norm.weight": (width,),
    }
    for layer in range(config.whole("num_hidden_layers")):
        name = f"encoder.layers.{layer}"
        shapes[f"{name}.self_attn.q_proj.weight"] = (width, width)
        shapes[f"{name}.mlp.fc1.weight"] = (inner, width)
    return [shapes]


FAMILY = EncoderFamily(
    name="clip_pair",
    encoder=f"{__name__}.encoder:ClipPairEncoder",
    captioner=None,
    model_type=None,
    accepts_images=False,
    prompt_formats=("raw",),
    natural_format="raw",
    # Its own padding is part of the 77 tokens.
    pads_texts=False,
    batches_prompts=False,
    folders=folders,
    read_facts=read_facts,
    weight_shapes=weight_shapes,
    image_problem=lambda facts, width, height: None,
    image_tokens=lambda facts, width, height: 0,
    lacks=None,
)
