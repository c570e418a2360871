"""From hidden states to conditioning: the transforms of a recipe, in order, in float32, cast last."""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workflow_scripts.lib.conditioning.reference import prompt_statistics
from workflow_scripts.lib.conditioning.registry import Transform, transform
from workflow_scripts.lib.store.hidden_states import HiddenStates

# For `configure_torch`. On one thread of the CPU, always: the bits of a conditioning decide what is rendered.
HARDWARE = {"device": "cpu", "dtype": "float32", "cpu_threads": 1}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Conditioning:
    """What the generator gets.

    Attributes:
        prompt_embeds: (tokens, dim), of the generator's dtype.
        report: Facts for tables: tokens, source_tokens, source_tokens_used (share, None where the blend takes the
            source as it is), warnings, and masked_dimensions where something was masked.
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
            result, facts = graft(recipe, text, text_states, source_states)
        report |= facts
        report["warnings"] = [str(item.message) for item in caught]
    result = result.to(_DTYPES[recipe["dtype"]]).contiguous()
    if not bool(torch.isfinite(result).all()):
        raise FloatingPointError(
            f"{int((~torch.isfinite(result)).sum())} of {result.numel()} values are not finite"
        )
    report["tokens"] = result.shape[0]
    return Conditioning(result, report)


def graft(
    recipe: Mapping[str, Any], text: torch.Tensor, text_states: HiddenStates, source_states: HiddenStates
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Applies the stages of a recipe that has a source.

    Args:
        recipe: As for `build_conditioning`.
        text: float32 (n, dim), the values of `text_states`.
        text_states: Of the generator's own text encoder.
        source_states: Of the encoder that is blended in.

    Returns:
        float32 (tokens, dim), and facts for the report.
    """

    def stage(name: str) -> tuple[Transform, dict[str, Any]]:
        chosen, parameters = transform(name, recipe[name]["name"]), dict(recipe[name]["parameters"])
        if "statistics" in parameters:
            covariance = name == "normalization" and chosen.name == "whiten"
            parameters["statistics"] = prompt_statistics(text.numpy(), text_states.roles, covariance)
        return chosen, parameters

    selected = selected_tokens(recipe, source_states)
    inputs = {
        "text_roles": text_states.roles,
        "text_token_ids": text_states.token_ids,
        "source_roles": source_states.roles[selected],
        "source_token_ids": source_states.token_ids[selected],
    }
    facts: dict[str, Any] = {}
    source = select_tokens(recipe, source_states)
    masking, parameters = stage("masking")
    source, masked = masking.function(source, inputs["source_roles"], **parameters)
    if masked:
        facts["masked_dimensions"] = masked
    normalization, parameters = stage("normalization")
    source = normalization.function(source, text=text, text_roles=text_states.roles, **parameters)
    blend, parameters = stage("blend")
    matching, matching_parameters = stage("length_matching")
    tokens = parameters.get("concat_tokens") or text.shape[0]
    if blend.whole_source:
        matched, own_length = source, True
    else:
        matched = matching.function(source, tokens, **matching_parameters)
        own_length = matching.name == "none"
        facts["source_tokens_used"] = share_of_source_used(matching, source, tokens, matching_parameters)
    facts["source_tokens"] = source.shape[0]
    own_inputs = {name: inputs[name] for name in blend.inputs}
    result = blend.function(text, matched, recipe["alpha"], own_length=own_length, **own_inputs, **parameters)
    return result, facts


def selected_tokens(recipe: Mapping[str, Any], states: HiddenStates) -> np.ndarray:
    """Returns which tokens the recipe's token mode selects: bool (tokens,).

    Raises:
        ValueError: where it selects none, naming the mode.
    """
    mode = recipe["token_mode"]["name"]
    mask = transform("token_mode", mode).function(states.roles)
    if not mask.any():
        raise ValueError(
            f"token_mode {mode!r} selects none of the {len(mask)} tokens; choose another token_mode"
        )
    return mask


def select_tokens(recipe: Mapping[str, Any], states: HiddenStates) -> torch.Tensor:
    """Returns the tokens that the recipe's token mode selects: float32 (selected, dim)."""
    return as_float32(states)[torch.from_numpy(selected_tokens(recipe, states))]


def as_float32(states: HiddenStates) -> torch.Tensor:
    """Returns stored hidden states as float32 (tokens, dim); bfloat16 widens exactly."""
    if states.dtype == "bfloat16":
        return torch.from_numpy(states.values.view(np.int16)).view(torch.bfloat16).float()
    return torch.from_numpy(states.values)


def share_of_source_used(
    matching: Transform, source: torch.Tensor, tokens: int, parameters: Mapping[str, Any]
) -> float:
    """Returns which share of the source's tokens has a weight other than 0 after a length matching.

    Args:
        matching: The length matching.
        source: float32 (m, dim).
        tokens: What it is matched to.
        parameters: Of the length matching.
    """
    if matching.weights is not None:
        return share_of_weights(matching.weights(source, tokens, **parameters))
    return share_of_tokens_used(matching.function, source.shape[0], tokens, parameters)


def share_of_tokens_used(match: Any, source_tokens: int, tokens: int, parameters: Mapping[str, Any]) -> float:
    """Returns which share of the source's tokens has a weight above 0 in the result of a length matching.

    The matching has to be linear in the tokens: what it does to an identity matrix is its weights.
    """
    return share_of_weights(match(torch.eye(source_tokens), tokens, **parameters))


def share_of_weights(weights: torch.Tensor) -> float:
    """Returns which share of the columns of a float32 (tokens, source_tokens) has a value other than 0."""
    return int((weights != 0).any(dim=0).sum()) / weights.shape[1]


def conditioning_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """Returns the first 32 hex digits of the SHA-256 of names, dtypes, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        total.update(tensor.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:32]
