"""Qwen3: the text encoder of Z-Image, Qwen3-Embedding, and any other checkpoint of `Qwen3Model` in transformers."""

from graftwork.models.config_files import ConfigFile
from graftwork.models.description import checkpoint_folders, language_model_shapes, read_encoder_facts
from graftwork.models.families import EncoderFamily

FAMILY = EncoderFamily(
    name="qwen3",
    encoder=f"{__name__}.encoder:Qwen3Encoder",
    captioner=None,
    model_type="qwen3",
    accepts_images=False,
    prompt_formats=("chat", "raw", "instruct"),
    natural_format="chat",
    pads_texts=True,
    batches_prompts=True,
    folders=checkpoint_folders,
    lacks=None,
    read_facts=lambda weights, tokenizer: read_encoder_facts(
        "qwen3", ConfigFile(weights / "config.json"), tokenizer
    ),
    image_problem=lambda facts, width, height: None,
    image_tokens=lambda facts, width, height: 0,
    weight_shapes=lambda weights: [language_model_shapes(ConfigFile(weights / "config.json"))],
)
