"""Qwen3-VL: `Qwen3VLModel` in transformers, which takes an image before the text."""

from dataclasses import replace
from pathlib import Path

from graftwork.models.description import added_tokens, read_encoder_facts, read_json
from graftwork.models.families import EncoderFacts, EncoderFamily


def read_facts(weights: Path, tokenizer: Path) -> EncoderFacts:
    """Reads the facts of a checkpoint out of its config.json and its tokenizer."""
    config = read_json(weights / "config.json")
    vision = config["vision_config"]
    return replace(
        read_encoder_facts("qwen3_vl", config["text_config"], tokenizer),
        accepts_images=True,
        image_token=added_tokens(tokenizer).get(config["image_token_id"]),
        patch_size=vision["patch_size"],
        spatial_merge_size=vision["spatial_merge_size"],
        deepstack_layers=len(vision["deepstack_visual_indexes"]),
    )


FAMILY = EncoderFamily(
    name="qwen3_vl",
    encoder=f"{__name__}.encoder:Qwen3VLEncoder",
    model_type="qwen3_vl",
    accepts_images=True,
    prompt_formats=("chat",),
    natural_format="chat",
    processor_files=("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
    required_processor_files=("preprocessor_config.json",),
    read_facts=read_facts,
)
