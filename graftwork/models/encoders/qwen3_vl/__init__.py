"""Qwen3-VL: `Qwen3VLModel` in transformers, which takes an image before the text."""

import math
from dataclasses import replace
from pathlib import Path

from graftwork.models.config_files import ConfigFile
from graftwork.models.description import (
    added_tokens,
    checkpoint_folders,
    language_model_shapes,
    read_encoder_facts,
)
from graftwork.models.families import EncoderFacts, EncoderFamily

# `smart_resize` of the image processor in transformers refuses more.
MAX_ASPECT_RATIO = 200


def read_facts(weights: Path, tokenizer: Path) -> EncoderFacts:
    """Reads the facts of a checkpoint out of its config.json, its tokenizer and its image processor."""
    config = ConfigFile(weights / "config.json")
    vision = config.section("vision_config")
    smallest, largest = _read_processor(ConfigFile(tokenizer / "preprocessor_config.json"), vision)
    return replace(
        read_encoder_facts("qwen3_vl", config.section("text_config"), tokenizer),
        accepts_images=True,
        image_token=added_tokens(tokenizer).get(config.whole("image_token_id")),
        patch_size=vision.whole("patch_size"),
        spatial_merge_size=vision.whole("spatial_merge_size"),
        deepstack_layers=len(vision.whole_list("deepstack_visual_indexes")),
        min_pixels=smallest,
        max_pixels=largest,
    )


def _read_processor(processor: ConfigFile, vision: ConfigFile) -> tuple[int, int]:
    """Returns the fewest and most pixels of an image; refuses patches that the vision tower does not take."""
    for key, of_tower in (("patch_size", "patch_size"), ("merge_size", "spatial_merge_size")):
        if key in processor.values and processor.whole(key) != vision.whole(of_tower):
            raise processor.wrong(
                key, f"{vision.whole(of_tower)}, as vision_config.{of_tower} of config.json has it,"
            )
    size = processor.section("size") if "size" in processor.values else ConfigFile(processor.file, {})
    # Older files have other keys; what is missing has the default of `Qwen2VLImageProcessorPil` in transformers.
    smallest = processor.whole("min_pixels", size.whole("shortest_edge", 56 * 56))
    largest = processor.whole("max_pixels", size.whole("longest_edge", 28 * 28 * 1280))
    if smallest > largest:
        raise size.wrong("shortest_edge", "a number of pixels up to longest_edge")
    return smallest, largest


def weight_shapes(weights: Path) -> list[dict[str, tuple[int, ...]]]:
    """Returns the weights of language model and vision tower, as `Qwen3VLModel` in transformers makes them."""
    config = ConfigFile(weights / "config.json")
    vision = config.section("vision_config")
    width, inner, patch = (
        vision.whole("hidden_size"),
        vision.whole("intermediate_size"),
        vision.whole("patch_size"),
    )
    merged = width * vision.whole("spatial_merge_size") ** 2
    out = vision.whole("out_hidden_size")
    tower: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (
            width,
            vision.whole("in_channels", 3),
            vision.whole("temporal_patch_size"),
            patch,
            patch,
        ),
        "pos_embed.weight": (vision.whole("num_position_embeddings"), width),
        "merger.linear_fc1.weight": (merged, merged),
        "merger.linear_fc2.weight": (out, merged),
    }
    for block in range(vision.whole("depth")):
        tower[f"blocks.{block}.attn.qkv.weight"] = (3 * width, width)
        tower[f"blocks.{block}.mlp.linear_fc1.weight"] = (inner, width)
    for index, _ in enumerate(vision.whole_list("deepstack_visual_indexes")):
        tower[f"deepstack_merger_list.{index}.linear_fc2.weight"] = (out, merged)
    return [language_model_shapes(config.section("text_config")), tower]


def image_problem(facts: EncoderFacts, width: int, height: int) -> str | None:
    """Returns why the image processor refuses an image of this size, or None."""
    ratio = max(width, height) / min(width, height)
    if ratio <= MAX_ASPECT_RATIO:
        return None
    return f"its sides are as 1 to {ratio:.4g}; the image processor takes up to 1 to {MAX_ASPECT_RATIO}; crop the image"


def image_tokens(facts: EncoderFacts, width: int, height: int) -> int:
    """Returns how many tokens an image becomes: the sides that `smart_resize` in transformers gives it, in merged patches."""
    limits = [facts.patch_size, facts.spatial_merge_size, facts.min_pixels, facts.max_pixels]
    if None in limits:
        return 0
    patch, merge, smallest, largest = limits
    side = patch * merge
    rows, columns = round(height / side), round(width / side)
    if rows * columns * side**2 > largest:
        shrink = math.sqrt(height * width / largest)
        rows = max(1, math.floor(height / shrink / side))
        columns = max(1, math.floor(width / shrink / side))
    elif rows * columns * side**2 < smallest:
        grow = math.sqrt(smallest / (height * width))
        rows, columns = math.ceil(height * grow / side), math.ceil(width * grow / side)
    return rows * columns


FAMILY = EncoderFamily(
    name="qwen3_vl",
    encoder=f"{__name__}.encoder:Qwen3VLEncoder",
    captioner="graftwork.models.encoders.qwen3_vl.captioner:Qwen3VLCaptioner",
    model_type="qwen3_vl",
    accepts_images=True,
    prompt_formats=("chat",),
    natural_format="chat",
    pads_texts=False,
    batches_prompts=True,
    folders=lambda entry: checkpoint_folders(
        entry,
        ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
        ("preprocessor_config.json",),
    ),
    lacks=None,
    read_facts=read_facts,
    weight_shapes=weight_shapes,
    image_problem=image_problem,
    image_tokens=image_tokens,
)
