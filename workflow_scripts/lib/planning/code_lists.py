"""What code decides the bytes of an artefact, as lists for `code_digest`.

That nothing is missing from these lists is what tests/unit/planning/test_code_lists.py holds them against.
"""

from collections.abc import Mapping
from typing import Any

from workflow_scripts.lib.models.acceleration import is_accelerated

_MODELS = "workflow_scripts.lib.models."
# What every model depends on: how torch is set up, and in which type weights are loaded.
_LOADING_CODE = tuple(
    f"{_MODELS}hardware:{name}"
    for name in ("configure_torch", "DEFAULT_CPU_THREADS", "parse_dtype", "DTYPES")
)
_ENCODING_CODE = (
    *_LOADING_CODE,
    f"{_MODELS}qwen3:tokenize",
    f"{_MODELS}qwen3:load_tokenizer",
    f"{_MODELS}description:read_chat_template",
    f"{_MODELS}weights",
    f"{_MODELS}tokens",
    f"{_MODELS}prompts",
)
# What an encoder's output depends on in our code. Never I/O, progress or logging. That nothing else is missing from
# these lists is what tests/unit/planning/test_code_lists.py holds them against.
EXTRACTION_CODE = {
    "qwen3": (*_ENCODING_CODE, f"{_MODELS}qwen3:Qwen3Encoder", f"{_MODELS}qwen3:TruncatedQwen3Model"),
    "qwen3_vl": (
        *_ENCODING_CODE,
        f"{_MODELS}qwen3_vl:Qwen3VLEncoder",
        f"{_MODELS}qwen3_vl:TruncatedQwen3VLModel",
        f"{_MODELS}images",
    ),
}
_BUILD = "workflow_scripts.lib.conditioning.build:"
# The transforms are not among these: a recipe has the digests of those it chose.
CONDITIONING_CODE = (
    *_LOADING_CODE,
    *(
        _BUILD + name
        for name in (
            "HARDWARE",
            "_DTYPES",
            "Conditioning",
            "no_statistics",
            "build_conditioning",
            "alphas_of_recipe",
            "distinct_tensors",
            "cast",
            "Grafting",
            "merged_facts",
            "selected_tokens",
            "select_tokens",
            "as_float32",
            "share_of_source_used",
            "share_of_tokens_used",
            "share_of_weights",
            "conditioning_hash",
        )
    ),
    "workflow_scripts.lib.conditioning.visibility",
    *(
        f"workflow_scripts.lib.conditioning.sketches:{name}"
        for name in ("NUMBERS", "TOLERANCE", "signs", "encode_sketch")
    ),
    "workflow_scripts.lib.conditioning.reference:prompt_statistics",
    "workflow_scripts.lib.conditioning.schedules",
    f"{_MODELS}z_image_steps",
)
SAMPLING_CODE = {
    "z_image": (
        *_LOADING_CODE,
        *(
            f"{_MODELS}z_image:{name}"
            for name in (
                "ZImageGenerator",
                "sample_images",
                "initial_latents",
                "padding_row",
                "_round_to_uint8",
                "convert_rows",
                "embeds_at",
                "guidance_arguments",
                "noisy_images",
            )
        ),
        f"{_MODELS}z_image_steps:remaining_sigmas",
        f"{_MODELS}z_image_steps:scheduler_sigmas",
        f"{_MODELS}description:padded_length",
        f"{_MODELS}description:CAPTION_MULTIPLE",
        "workflow_scripts.lib.jobs.generation:_sample",
        "workflow_scripts.lib.jobs.generation:_sampling_arguments",
        "workflow_scripts.lib.jobs.generation:_row_embeds",
    ),
}
# What counts besides where the generator is accelerated, which it always is on a GPU.
FAST_SAMPLING_CODE = {
    "z_image": (
        f"{_MODELS}z_image_fast",
        f"{_MODELS}z_image_blocks",
        f"{_MODELS}acceleration:resolve_acceleration",
        "workflow_scripts.lib.jobs.generation:_launch",
    ),
}


# What counts besides for an image that starts from another one: how its file is read.
INIT_IMAGE_CODE = (f"{_MODELS}images",)


def sampling_code(family: str, generation: Mapping[str, Any], init_image: bool = False) -> tuple[str, ...]:
    """Returns the code that decides the bytes of an image.

    Args:
        family: Of the generator.
        generation: `hardware.generation` of config.yaml.
        init_image: Whether it starts from an image.
    """
    fast = FAST_SAMPLING_CODE[family] if is_accelerated(generation) else ()
    return SAMPLING_CODE[family] + fast + (INIT_IMAGE_CODE if init_image else ())
