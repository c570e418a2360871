"""States of a text with the two CLIP text encoders of SDXL, as `StableDiffusionXLPipeline.encode_prompt` in diffusers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from graftwork.models.encoder import EncodedSequence, Encoder
from graftwork.models.encoders.clip_pair import PARTS
from graftwork.models.hardware import parse_dtype
from graftwork.models.prompts import NEUTRAL_OPTIONS, InputOptions
from graftwork.models.tokens import ROLE_CODES
from graftwork.models.transformers_encoder import check_layers, load_weights

_CLASSES = (CLIPTextModel, CLIPTextModelWithProjection)


class ClipPairEncoder(Encoder):
    """Two CLIP text encoders with their tokenizers; the second one gives the pooled text."""

    def __init__(self, models: Sequence[Any], tokenizers: Sequence[Any]) -> None:
        """Takes both, loaded."""
        self.models, self.tokenizers = models, tokenizers

    @classmethod
    def load(
        cls, folder: Path, entry: Mapping[str, Any], layers: Sequence[int] | None, hardware: Mapping[str, Any]
    ) -> Self:
        """Loads both; see `loading.load_encoder`."""
        own = folder / (entry.get("subfolder") or "")
        models = []
        for model_class, (weights, _) in zip(_CLASSES, PARTS, strict=True):
            config = CLIPTextConfig.from_pretrained(own / weights, local_files_only=True)
            model = load_weights(model_class, own / weights, config, parse_dtype(hardware["dtype"]))
            models.append(model.to(hardware["device"]))
        tokenizers = [
            CLIPTokenizer.from_pretrained(own / tokenizer, local_files_only=True) for _, tokenizer in PARTS
        ]
        return cls(models, tokenizers)

    @torch.no_grad()
    def encode(
        self,
        prompt: str,
        image: Image.Image | None,
        image_key: str | None,
        layers: Sequence[int],
        options: InputOptions = NEUTRAL_OPTIONS,
    ) -> EncodedSequence:
        """Encodes one text; see `Encoder`."""
        check_layers(layers, 0)
        if image is not None or options.padded_to:
            raise ValueError(
                "SDXL's text encoders take no images and pad by themselves; choose another encoder in "
                "config/experiments/*.yaml"
            )
        ids = [self._tokens(tokenizer, prompt) for tokenizer in self.tokenizers]
        outputs = [
            model(tokens.to(model.device), output_hidden_states=True)
            for model, tokens in zip(self.models, ids, strict=True)
        ]
        states = torch.cat([output.hidden_states[-2][0] for output in outputs], dim=-1)
        pooled = outputs[1].text_embeds[0]
        row = torch.nn.functional.pad(pooled, (0, states.shape[-1] - len(pooled)))
        states = torch.cat([states, row[None]]).to("cpu", copy=True)
        if not bool(torch.isfinite(states).all()):
            raise FloatingPointError(
                "SDXL's text encoders gave values that are not finite; set config/config.yaml: "
                "hardware.extraction.dtype to float32"
            )
        return self._sequence(ids[0][0].numpy(), states)

    def _tokens(self, tokenizer: Any, prompt: str) -> torch.Tensor:
        """Returns int64 (1, 77): the pipeline cuts longer texts, which is refused here."""
        most = tokenizer.model_max_length
        length = len(tokenizer(prompt).input_ids)
        if length > most:
            raise ValueError(
                f"a text of {length} tokens does not fit into the {most} that SDXL reads; shorten the prompt"
            )
        return tokenizer(prompt, padding="max_length", max_length=most, return_tensors="pt").input_ids

    def _sequence(self, ids: np.ndarray, states: torch.Tensor) -> EncodedSequence:
        end = int(np.flatnonzero(ids == self.tokenizers[0].eos_token_id)[0])
        in_prompt = np.zeros(len(ids) + 1, dtype=bool)
        in_prompt[1:end] = True
        roles = np.where(in_prompt, ROLE_CODES["prompt"], ROLE_CODES["template"]).astype(np.uint8)
        roles[0] = ROLE_CODES["sink"]
        return EncodedSequence(
            # The row of the pooled text stands for the end of the text, whose state it is.
            token_ids=np.append(ids, self.tokenizers[0].eos_token_id),
            roles=roles,
            positions=np.arange(len(ids) + 1, dtype=np.int64)[None],
            hidden_states={0: states},
            in_prompt=in_prompt,
        )
