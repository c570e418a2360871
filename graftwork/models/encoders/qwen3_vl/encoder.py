"""Hidden states of Qwen3-VL for a prompt with or without an image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel, Qwen3VLConfig, Qwen3VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from graftwork.models.description import encoder_folders
from graftwork.models.encoder import EncodedSequence
from graftwork.models.hardware import parse_dtype
from graftwork.models.prompts import InputOptions, lay_out
from graftwork.models.tokens import ROLE_CODES, assign_roles, mark_prompt
from graftwork.models.transformers_encoder import (
    UNUSED_WEIGHTS,
    ModelInput,
    TransformersEncoder,
    check_layers,
    load_tokenizer,
    load_weights,
    pad_right,
    take_states,
    tokenize,
)


class TruncatedQwen3VLModel(Qwen3VLModel):
    """Qwen3VLModel whose language model may have fewer layers than its checkpoint, which may have a head."""

    _keys_to_ignore_on_load_unexpected = UNUSED_WEIGHTS


class Qwen3VLEncoder(TransformersEncoder):
    """Encodes prompts and images with `Qwen3VLModel` in transformers.

    Attributes:
        model: All of the vision tower, and blocks of the language model up to the deepest layer.
        image_processor: The one of Pillow and numpy, so that pixels do not depend on torchvision being there.
    """

    def __init__(self, model: Qwen3VLModel, tokenizer: Any, image_processor: Any, deepest: int) -> None:
        super().__init__(model, tokenizer, deepest)
        self.image_processor = image_processor
        self._last_image: tuple[str, torch.Tensor, Any] | None = None
        config = model.config
        self._image_ids = {config.image_token_id, config.video_token_id}
        self._marker_ids = {config.vision_start_token_id, config.vision_end_token_id}
        self._image_token = tokenizer.convert_ids_to_tokens(config.image_token_id)

    @classmethod
    def load(
        cls, folder: Path, entry: Mapping[str, Any], layers: Sequence[int] | None, hardware: Mapping[str, Any]
    ) -> "Qwen3VLEncoder":
        """Loads the layers that are needed; see `loading.load_encoder`."""
        weights, tokenizer = encoder_folders(entry, folder)
        config = Qwen3VLConfig.from_pretrained(weights, local_files_only=True)
        total = config.text_config.num_hidden_layers
        deepest = check_layers(layers, total)[-1] if layers is not None else total
        # Visual features are added to the output of the first blocks after `hidden_states` recorded it. What
        # is left at the end of a truncated model would contain them: there, one more block keeps the entry as
        # recorded.
        deepstack = len(config.vision_config.deepstack_visual_indexes)
        kept = min(deepest if deepest > deepstack else deepest + 1, total)
        config.text_config.num_hidden_layers = kept
        model = load_weights(TruncatedQwen3VLModel, weights, config, parse_dtype(hardware["dtype"]))
        if kept < total:
            # The library replaces the last entry by the normed output; only the checkpoint's last one is
            # meant to be.
            model.language_model.norm = torch.nn.Identity()
        image_processor = Qwen2VLImageProcessorPil.from_pretrained(tokenizer, local_files_only=True)
        return cls(model.to(hardware["device"]), load_tokenizer(tokenizer), image_processor, deepest)

    @property
    def language_model(self) -> PreTrainedModel:
        """The part of the model that has the rotary embedding."""
        return self.model.language_model

    def render(self, prompt: str, image_tokens: int = 0, system: str | None = None) -> str:
        """Returns the chat given to the tokenizer, with the image's placeholder once per image token."""
        content: list[dict[str, str]] = [{"type": "text", "text": prompt}]
        if image_tokens:
            content.insert(0, {"type": "image"})
        turns = [] if system is None else [{"role": "system", "content": system}]
        text = self.tokenizer.apply_chat_template(
            [*turns, {"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        if self._image_token in (system or ""):
            raise ValueError(
                f"the system prompt contains {self._image_token!r}, which stands for an image; remove it from the text in "
                "config/experiments"
            )
        # Only the template's own placeholder, which stands before the prompt.
        return text.replace(self._image_token, self._image_token * image_tokens, 1) if image_tokens else text

    def prepare(
        self, prompt: str, image: Image.Image | None, image_key: str | None, options: InputOptions
    ) -> ModelInput:
        """Renders and tokenizes a prompt, and runs the vision tower on its image; see `TransformersEncoder`."""
        if options.prompt_format != "chat":
            raise ValueError(
                f"prompt_format {options.prompt_format!r} has no place for an image; an encoder that takes images needs "
                "chat, in config/experiments/*.yaml"
            )
        grid, features = self._image_features(image, image_key) if image is not None else (None, None)
        merge = self.model.config.vision_config.spatial_merge_size
        image_tokens = int(grid.prod()) // merge**2 if grid is not None else 0
        layout = lay_out(lambda text, system: self.render(text, image_tokens, system), prompt, options)
        input_ids, offsets = tokenize(self.tokenizer, layout)
        # Before the forward pass: image tokens in the prompt would be counted as missing features.
        roles = assign_roles(layout, input_ids[0].numpy(), offsets, self._image_ids, self._marker_ids)

        device = self.model.device
        types = (input_ids == self.model.config.image_token_id).int()
        positions, _ = self.model.get_rope_index(input_ids, types, image_grid_thw=grid)
        given = None
        if options.positions == "sequential" and image is not None:
            # Equal on all axes, which makes M-RoPE an ordinary rotary embedding. Text alone has these anyway.
            given = positions = torch.arange(input_ids.shape[1]).expand(3, 1, -1)
        arguments = {
            "position_ids": given.to(device) if given is not None else None,
            "mm_token_type_ids": types.to(device),
            "image_grid_thw": grid.to(device) if grid is not None else None,
            "mm_encoder_outputs": {"image": features} if features is not None else None,
        }
        return ModelInput(input_ids, roles, mark_prompt(layout, offsets), positions[:, 0].numpy(), arguments)

    def batch_arguments(self, rows: Sequence[ModelInput], length: int) -> dict[str, Any]:
        """Places every row as it is placed alone, and repeats the features of the image; see `TransformersEncoder`."""
        device, of_image = self.model.device, rows[0].arguments
        types = [pad_right(row.arguments["mm_token_type_ids"], length) for row in rows]
        positions = [pad_right(torch.from_numpy(row.positions), length) for row in rows]
        grid, features = of_image["image_grid_thw"], of_image["mm_encoder_outputs"]
        return {
            "position_ids": torch.stack(positions, dim=1).to(device),
            "mm_token_type_ids": torch.cat(types),
            "image_grid_thw": grid if grid is None else grid.repeat(len(rows), 1),
            "mm_encoder_outputs": features and {"image": _repeated(features["image"], len(rows))},
        }

    @torch.no_grad()
    def encode_image(self, image: Image.Image, image_key: str | None) -> EncodedSequence:
        """Runs the vision tower alone; see `Encoder`."""
        grid, features = self._image_features(image, image_key)
        states = take_states([features.pooler_output[0][None]], [0])
        tokens = states[0].shape[0]
        merge = self.model.config.vision_config.spatial_merge_size
        positions = self.model.get_vision_position_ids(0, grid[0], spatial_merge_size=merge)
        return EncodedSequence(
            token_ids=np.full(tokens, self.model.config.image_token_id, dtype=np.int64),
            roles=np.full(tokens, ROLE_CODES["image"], dtype=np.uint8),
            positions=positions.numpy(),
            hidden_states=states,
            in_prompt=np.zeros(tokens, dtype=bool),
        )

    def _image_features(self, image: Image.Image, image_key: str | None) -> tuple[torch.Tensor, Any]:
        """Returns the grid, int64 (1, 3) on the CPU, and the vision tower's output for one RGB image."""
        if image_key is not None and self._last_image is not None and self._last_image[0] == image_key:
            return self._last_image[1:]
        inputs = self.image_processor(images=[image], return_tensors="pt")
        grid = inputs["image_grid_thw"]
        device = self.model.device
        features = self.model.get_image_features(inputs["pixel_values"].to(device), grid.to(device))
        # One image only: extraction orders its inputs by image, and features of many would fill the memory.
        self._last_image = (image_key, grid, features) if image_key is not None else None
        return grid, features


def _repeated(features: Any, times: int) -> Any:
    """Returns the features of one image, (image tokens, width) each, as those of so many images."""
    return type(features)(
        pooler_output=features.pooler_output * times,
        deepstack_features=[of_block * times for of_block in features.deepstack_features],
    )
