"""From hidden states to conditioning: the transforms of a recipe, in order, in float32, cast last."""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graftwork.conditioning.reference import prompt_statistics
from graftwork.conditioning.visibility import CaptionNorm
from graftwork.models.families import generator_family
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.store.hidden_states import HiddenStates
from graftwork.transforms.registry import Transform, transform
from graftwork.transforms.schedules import AlphaSchedule, alphas_of_steps, scheduled_alphas

# For `configure_torch`. On one thread of the CPU, always: the bits of a conditioning decide what is rendered.
HARDWARE = {"device": "cpu", "dtype": "float32", "cpu_threads": 1}
# Key of an encoder input and entry of `hidden_states` -> what is stored.
ReadStates = Callable[[str, int], HiddenStates]
# What a recipe says of statistics, {key, tokens} or {npz, tokens} -> the statistics.
ReadStatistics = Callable[[Mapping[str, Any]], ReferenceStatistics]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Conditioning:
    """What the generator gets.

    Attributes:
        prompt_embeds: (tokens, dim), of the generator's dtype; or (distinct, tokens, dim), where steps differ.
        report: Facts for tables: tokens, source_tokens, source_tokens_used (share, None where the blend takes the
            source as it is), warnings, masked_dimensions and fixed_dimensions where something was masked or fixed, alphas
            where steps differ, negative_tokens with guidance, and what `CaptionNorm.report` adds.
        prompt_embeds_of_step: int64 (steps,), which of `prompt_embeds` each step gets; None where they are one.
        negative_prompt_embeds: (negative tokens, dim), of the generator's dtype; None without guidance.
    """

    prompt_embeds: torch.Tensor
    report: dict[str, Any]
    prompt_embeds_of_step: torch.Tensor | None = None
    negative_prompt_embeds: torch.Tensor | None = None

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """What is stored, by name."""
        names = ("prompt_embeds", "prompt_embeds_of_step", "negative_prompt_embeds")
        return {name: tensor for name in names if (tensor := getattr(self, name)) is not None}

    @property
    def hash(self) -> str:
        """Digest of the bytes, shape and dtype of all tensors."""
        return conditioning_hash(self.tensors)


def no_statistics(wanted: Mapping[str, Any]) -> ReferenceStatistics:
    """Stands for a reader of statistics where no recipe takes any."""
    raise LookupError(f"statistics {dict(wanted)} are wanted, but nothing was given that reads them")


def build_conditioning(
    recipe: Mapping[str, Any],
    read_states: ReadStates,
    read_statistics: ReadStatistics = no_statistics,
    caption_norm: CaptionNorm | None = None,
) -> Conditioning:
    """Applies a recipe.

    Args:
        recipe: As `Keys.recipe` returns it.
        read_states: Gives the hidden states that the recipe names, by key and entry.
        read_statistics: Gives the statistics that the recipe names.
        caption_norm: Of the generator that the recipe names; None for no report of what it sees.

    Raises:
        ValueError: where the token mode selects nothing, naming the mode.
        FloatingPointError: where the result is not finite.
    """
    text_states = read_states(*recipe["text"])
    text = as_float32(text_states)
    report: dict[str, Any] = {"source_tokens": 0, "source_tokens_used": None, "warnings": []}
    alphas = alphas_of_recipe(recipe)
    if "sources" not in recipe:
        results = [text]
    else:
        sources = [read_states(*source) for source in recipe["sources"]]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            neutral = [read_states(*source) for source in recipe.get("neutral_sources", ())]
            grafting = Grafting(recipe, text_states, sources, neutral, read_statistics)
            blended = {alpha: grafting.blend_at(alpha) if alpha else text for alpha in dict.fromkeys(alphas)}
            results = [blended[alpha] for alpha in alphas]
        report |= grafting.facts
        # A blend that is computed at several alphas says the same of each.
        report["warnings"] = list(dict.fromkeys(str(item.message) for item in caught))
    distinct, of_step = distinct_tensors([cast(result, recipe["dtype"]) for result in results])
    report["tokens"] = distinct[0].shape[0]
    if len(set(alphas)) > 1:
        report["alphas"] = alphas
    exact_negative, negative = None, None
    if "negative" in recipe:
        exact_negative = as_float32(read_states(recipe["negative"], recipe["text"][1]))
        negative = cast(exact_negative, recipe["dtype"])
        report["negative_tokens"] = negative.shape[0]
    if caption_norm is not None:
        report |= caption_norm.report(results, text, exact_negative)
    if len(distinct) == 1:
        return Conditioning(distinct[0], report, None, negative)
    return Conditioning(torch.stack(distinct), report, torch.tensor(of_step), negative)


def alphas_of_recipe(recipe: Mapping[str, Any]) -> list[float]:
    """Returns the alpha of each step; a single one where all steps have the same, 0 for the text alone."""
    alpha = recipe.get("alpha", 0.0)
    if "alpha_over_sigma" in recipe:
        of = recipe["alpha_over_sigma"]
        first = of["first_step"]
        family = generator_family(of["family"])
        sigmas = family.scheduler_sigmas(
            of["scheduler"], of["num_inference_steps"], of["image_tokens"], first
        )
        schedule = AlphaSchedule.model_validate({**of["schedule"], "over": "sigma"})
        shares = alphas_of_steps(schedule, of["num_inference_steps"] - first, sigmas.tolist())
        alpha = scheduled_alphas(alpha, shares)
    return alpha if isinstance(alpha, list) else [alpha]


def distinct_tensors(tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[int]]:
    """Returns the tensors that differ in a bit, in the order they come, and for each tensor which of these it is."""
    names = [conditioning_hash({"": tensor}) for tensor in tensors]
    order = list(dict.fromkeys(names))
    return [tensors[names.index(name)] for name in order], [order.index(name) for name in names]


def cast(values: torch.Tensor, dtype: str) -> torch.Tensor:
    """Returns float32 values as the generator gets them.

    Raises:
        FloatingPointError: where they are not finite.
    """
    result = values.to(_DTYPES[dtype]).contiguous()
    if not bool(torch.isfinite(result).all()):
        raise FloatingPointError(
            f"{int((~torch.isfinite(result)).sum())} of {result.numel()} values are not finite"
        )
    return result


class Grafting:
    """The stages of a recipe that has a source, applied up to the blend.

    Attributes:
        facts: For the report.
    """

    def __init__(
        self,
        recipe: Mapping[str, Any],
        text_states: HiddenStates,
        sources: Sequence[HiddenStates],
        neutral: Sequence[HiddenStates] = (),
        read_statistics: ReadStatistics = no_statistics,
    ) -> None:
        """Applies every stage but the blend.

        Args:
            recipe: As for `build_conditioning`.
            text_states: Of the generator's own text encoder.
            sources: Of the encoder that is blended in, one for each reference and layer.
            neutral: What each of them is compared with, where the blend asks for it.
            read_statistics: As for `build_conditioning`.
        """
        self._recipe = recipe
        self._read_statistics = read_statistics
        self._text_states = text_states
        self._text = as_float32(text_states)
        self._blend, self._parameters = self._stage("blend")
        self._combination, self._weights = self._stage("combination")
        self._source, self._inputs, self.facts = self._combine(sources)
        if neutral:
            self._inputs["neutral"] = self._combine(neutral)[0]

    def blend_at(self, alpha: float) -> torch.Tensor:
        """Returns text and source blended, float32 (tokens, dim); alpha is in (0, 1]."""
        own_inputs = {name: self._inputs[name] for name in self._blend.inputs}
        return self._blend.function(
            self._text, self._source, alpha, own_length=self._own_length, **own_inputs, **self._parameters
        )

    @property
    def _own_length(self) -> bool:
        return self._blend.whole_source or self._recipe["length_matching"]["name"] == "none"

    def _stage(self, name: str) -> tuple[Transform, dict[str, Any]]:
        """Returns the transform that the recipe chose for a stage, and its parameters."""
        chosen, parameters = (
            transform(name, self._recipe[name]["name"]),
            dict(self._recipe[name]["parameters"]),
        )
        if isinstance(parameters.get("statistics"), Mapping):
            parameters["statistics"] = self._read_statistics(parameters["statistics"])
        elif "statistics" in parameters:
            covariance = name == "normalization" and chosen.name == "whiten"
            parameters["statistics"] = prompt_statistics(
                self._text.numpy(), self._text_states.roles, covariance
            )
        if "fix_corpus" in parameters:
            pair = parameters["fix_corpus"]
            parameters["fix_corpus"] = tuple(self._read_statistics(pair[side]) for side in ("donor", "host"))
        return chosen, parameters

    def _combine(
        self, sources: Sequence[HiddenStates]
    ) -> tuple[torch.Tensor, dict[str, Any], dict[str, Any]]:
        """Returns the source as the blend takes it, float32 (tokens, dim), what a blend may ask for, and facts.

        What a blend may ask for is of the first: the layers of one input have the same tokens.
        """
        prepared = [self._prepare(states) for states in sources]
        combined = self._combination.function([source for source, _, _ in prepared], **self._weights)
        return combined, prepared[0][1], merged_facts([facts for _, _, facts in prepared])

    def _prepare(self, states: HiddenStates) -> tuple[torch.Tensor, dict[str, Any], dict[str, Any]]:
        """Returns one source before it is combined, and the rest as `_combine` does."""
        selected = selected_tokens(self._recipe, states)
        inputs = {
            "text_roles": self._text_states.roles,
            "text_token_ids": self._text_states.token_ids,
            "source_roles": states.roles[selected],
            "source_token_ids": states.token_ids[selected],
        }
        source = select_tokens(self._recipe, states)
        masking, parameters = self._stage("masking")
        source, masked = masking.function(source, inputs["source_roles"], **parameters)
        fix, parameters = self._stage("dimension_fix")
        source, fixed = fix.function(source, inputs["source_roles"], **parameters)
        facts: dict[str, Any] = {}
        for name, changed in (("masked_dimensions", masked), ("fixed_dimensions", fixed)):
            if changed:
                facts[name] = changed
        normalization, parameters = self._stage("normalization")
        source = normalization.function(
            source, text=self._text, text_roles=self._text_states.roles, **parameters
        )
        facts["source_tokens"] = source.shape[0]
        if self._blend.whole_source:
            return source, inputs, facts
        matching, parameters = self._stage("length_matching")
        tokens = self._parameters.get("concat_tokens") or self._text.shape[0]
        facts["source_tokens_used"] = share_of_source_used(matching, source, tokens, parameters)
        return matching.function(source, tokens, **parameters), inputs, facts


def merged_facts(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the facts of several sources as one: tokens added up, shares by the number of tokens."""
    if len(facts) == 1:
        return dict(facts[0])
    tokens = sum(part["source_tokens"] for part in facts)
    merged: dict[str, Any] = {"source_tokens": tokens}
    if all("source_tokens_used" in part for part in facts):
        used = sum(part["source_tokens_used"] * part["source_tokens"] for part in facts)
        merged["source_tokens_used"] = used / tokens
    for name in ("masked_dimensions", "fixed_dimensions"):
        changed = [
            f"{line} (source {number})"
            for number, part in enumerate(facts, start=1)
            for line in part.get(name, ())
        ]
        if changed:
            merged[name] = changed
    return merged


def selected_tokens(recipe: Mapping[str, Any], states: HiddenStates) -> np.ndarray:
    """Returns which tokens the recipe's token mode selects: bool (tokens,).

    Raises:
        ValueError: where it selects none, naming the mode.
    """
    mode = recipe["token_mode"]["name"]
    mask = transform("token_mode", mode).function(states.roles, **recipe["token_mode"]["parameters"])
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
