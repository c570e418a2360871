"""Qwen3: the text encoder of Z-Image, Qwen3-Embedding, and any other checkpoint of `Qwen3Model` in transformers."""

from graftwork.models.description import read_encoder_facts, read_json
from graftwork.models.families import EncoderFamily

FAMILY = EncoderFamily(
    name="qwen3",
    encoder=f"{__name__}.encoder:Qwen3Encoder",
    model_type="qwen3",
    accepts_images=False,
    prompt_formats=("chat", "raw", "instruct"),
    natural_format="chat",
    processor_files=(),
    required_processor_files=(),
    read_facts=lambda weights, tokenizer: read_encoder_facts(
        "qwen3", read_json(weights / "config.json"), tokenizer
    ),
)
