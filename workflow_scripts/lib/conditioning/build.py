"""From hidden states to conditioning: the transforms of a recipe, in order, in float32, cast last."""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workflow_scripts.lib.conditioning.registry import transform
from workflow_scripts.lib.store.hidden_states import HiddenStates

# For `configure_torch`. On one thread of the CPU, always: the bits of a conditioning decide what is rendered.
HARDWARE = {"device": "cpu", "dtype": "float32", "cpu_threads": 1}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Conditioning:
    """What the generator gets.

    Attributes:
        prompt_embeds: (tokens, dim), of the generator's dtype.
        report: Facts for tables: tokens, source_tokens, source_tokens_used (share), warnings.
    """

    prompt_embeds: torch.Tensor
    report: dict[str, Any]

    @property
    def hash(self) -> str:
        """Digest of the bytes, shape and dtype."""
        return conditioning_hash({"prompt_embeds": self.prompt_embeds})


def build_conditioning(
    recipe: Mapping[str, Any], text_states: HiddenStates, source_states: HiddenStates | None
) -> Conditioning:
    """Applies a recipe.

    Args:
        recipe: As `Keys.recipe` returns it.
        text_states: Of the generator's own text encoder.
        source_states: Of the encoder that is blended in; None for a recipe without source.

    Raises:
        ValueError: where the token mode selects nothing, naming the mode.
        FloatingPointError: where the result is not finite.
    """
    text = as_float32(text_states)
    report: dict[str, Any] = {"source_tokens": 0, "source_tokens_used": None, "warnings": []}
    if "source" not in recipe:
        result = text
    else:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            source = select_tokens(recipe, source_states)
            normalization = recipe["normalization"]
            source = transform("normalization", normalization["name"]).function(
                source, text=text, text_roles=text_states.roles, **normalization["parameters"]
            )
            matching = recipe["length_matching"]
            match = transform("length_matching", matching["name"]).function
            matched = match(source, text.shape[0], **matching["parameters"])
            blend = recipe["blend"]
            result = transform("blend", blend["name"]).function(
                text, matched, recipe["alpha"], own_length=matching["name"] == "none", **blend["parameters"]
            )
        report["warnings"] = [str(item.message) for item in caught]
        report["source_tokens"] = source.shape[0]
        report["source_tokens_used"] = share_of_tokens_used(
            match, source.shape[0], text.shape[0], matching["parameters"]
        )
    result = result.to(_DTYPES[recipe["dtype"]]).contiguous()
    if not bool(torch.isfinite(result).all()):
        raise FloatingPointError(
            f"{int((~torch.isfinite(result)).sum())} of {result.numel()} values are not finite"
        )
    report["tokens"] = result.shape[0]
    return Conditioning(result, report)


def select_tokens(recipe: Mapping[str, Any], states: HiddenStates) -> torch.Tensor:
    """Returns the tokens that the recipe's token mode selects: float32 (selected, dim)."""
    mode = recipe["token_mode"]["name"]
    mask = transform("token_mode", mode).function(states.roles)
    if not mask.any():
        raise ValueError(
            f"token_mode {mode!r} selects none of the {len(mask)} tokens; choose another token_mode"
        )
    return as_float32(states)[torch.from_numpy(mask)]


def as_float32(states: HiddenStates) -> torch.Tensor:
    """Returns stored hidden states as float32 (tokens, dim); bfloat16 widens exactly."""
    if states.dtype == "bfloat16":
        return torch.from_numpy(states.values.view(np.int16)).view(torch.bfloat16).float()
    return torch.from_numpy(states.values)


def share_of_tokens_used(match: Any, source_tokens: int, tokens: int, parameters: Mapping[str, Any]) -> float:
    """Returns which share of the source's tokens has a weight above 0 in the result of a length matching.

    Matching is linear in the tokens, so what it does to an identity matrix is its weights.
    """
    weights = match(torch.eye(source_tokens), tokens, **parameters)
    return float((weights != 0).any(dim=0).float().mean())


def conditioning_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """Returns the first 32 hex digits of the SHA-256 of names, dtypes, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        total.update(tensor.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:32]
