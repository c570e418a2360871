"""Greedy answers of Qwen3-VL about an image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import GenerationConfig, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from graftwork.models.description import encoder_folders
from graftwork.models.encoder import Captioner
from graftwork.models.encoders.qwen3_vl.encoder import Qwen3VLEncoder
from graftwork.models.hardware import parse_dtype
from graftwork.models.transformers_encoder import load_tokenizer, load_weights

_THOUGHT_ENDS = "</think>"
_THOUGHT_BEGINS = "<think>"


class Qwen3VLCaptioner(Captioner):
    """Answers with `Qwen3VLForConditionalGeneration` in transformers, always with the most probable token.

    Attributes:
        model: Vision tower and language model with its head.
        tokenizer: With its chat template.
        image_processor: The one of Pillow and numpy.
    """

    def __init__(self, model: Qwen3VLForConditionalGeneration, tokenizer: Any, image_processor: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        # What an image and a text look like to the model is said in one place.
        layers = model.config.text_config.num_hidden_layers
        self._encoder = Qwen3VLEncoder(model.model, tokenizer, image_processor, layers)

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> "Qwen3VLCaptioner":
        """Loads the whole model; see `loading.load_captioner`."""
        weights, tokenizer = encoder_folders(entry, folder)
        config = Qwen3VLConfig.from_pretrained(weights, local_files_only=True)
        dtype = parse_dtype(hardware["dtype"])
        model = load_weights(Qwen3VLForConditionalGeneration, weights, config, dtype)
        processor = Qwen2VLImageProcessorPil.from_pretrained(tokenizer, local_files_only=True)
        return cls(model.to(hardware["device"]), load_tokenizer(tokenizer), processor)

    @torch.no_grad()
    def answer(self, image: Image.Image, question: str, max_new_tokens: int) -> str:
        """Returns the most probable answer; see `Captioner`."""
        device, tokenizer = self.model.device, self.tokenizer
        pixels = self.image_processor(images=[image], return_tensors="pt")
        grid = pixels["image_grid_thw"]
        tokens = int(grid.prod()) // self.model.config.vision_config.spatial_merge_size**2
        text = self._encoder.render(question, tokens)
        input_ids = torch.tensor([tokenizer(text)["input_ids"]], dtype=torch.int64, device=device)
        # Not the settings of generation_config.json: they sample, and the identity of an encoder does not cover them.
        end = tokenizer.eos_token_id
        written = self.model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            pixel_values=pixels["pixel_values"].to(device),
            image_grid_thw=grid.to(device),
            mm_token_type_ids=(input_ids == self.model.config.image_token_id).int(),
            generation_config=GenerationConfig(
                do_sample=False,
                num_beams=1,
                max_new_tokens=max_new_tokens,
                eos_token_id=end,
                pad_token_id=end,
            ),
        )[0, input_ids.shape[1] :]
        if int(written[-1]) != end:
            raise ValueError(
                f"the answer to {question!r} does not end within {max_new_tokens} tokens; give words.max_new_tokens more, in "
                "config/experiments or config/models.yaml"
            )
        return answer_in(tokenizer.decode(written, skip_special_tokens=True), question)


def answer_in(text: str, question: str) -> str:
    """Returns the answer in what a model has written, in one line, without the thought before it.

    Raises:
        ValueError: where nothing is left.
    """
    answer = " ".join(text.rpartition(_THOUGHT_ENDS)[2].split())
    if not answer or _THOUGHT_BEGINS in answer:
        raise ValueError(
            f"the model wrote no answer to {question!r}; ask another question in words.questions"
        )
    return answer
