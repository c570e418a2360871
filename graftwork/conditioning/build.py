"""From hidden states to conditioning: the transforms of a recipe, in order, in float32, cast last."""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from graftwork.conditioning.reference import prompt_statistics
from graftwork.conditioning.visibility import CaptionNorm
from graftwork.maps.fitted import FittedMap
from graftwork.models.families import generator_family
from graftwork.models.tokens import ROLE_CODES, ROLES
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.statistics.sink import find_sinks, massive_norms
from graftwork.store.hidden_states import HiddenStates
from graftwork.store.records import ConditioningReport, CorpusStatistics, FileStatistics, Recipe, StageChoice
from graftwork.transforms.context import COVARIANCE, NEUTRAL_SOURCE, STATISTICS, WHOLE_SOURCE, Context
from graftwork.transforms.registry import Transform, TransformParameters, transform
from graftwork.transforms.schedules import AlphaSchedule, alphas_of_steps, scheduled_alphas

# For `configure_torch`. On one thread of the CPU, always: the bits of a conditioning decide what is rendered.
HARDWARE = {"device": "cpu", "dtype": "float32", "cpu_threads": 1}
# Key of an encoder input and entry of `hidden_states` -> what is stored.
ReadStates = Callable[[str, int], HiddenStates]
StatisticsName = CorpusStatistics | FileStatistics
# What a recipe says of statistics -> the statistics.
ReadStatistics = Callable[[StatisticsName], ReferenceStatistics]
# Key of a fitted map -> the map.
ReadMap = Callable[[str], FittedMap]
# How many tokens a warning names.
_MOST_NAMED = 3
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Conditioning:
    """Conditioning as the generator gets it.

    Attributes:
        tensors: stored tensors by name. `prompt_embeds` is (tokens, dim), of the generator's dtype, or (tokens, layers,
            dim) where the generator's layout is `stack`; where steps differ it has one dimension more, (distinct, ...),
            and `prompt_embeds_of_step`, int64 (steps,), says which of these each step gets. With guidance there is
            `negative_prompt_embeds`, the same with its own tokens.
        report: Facts for tables.
    """

    tensors: Mapping[str, torch.Tensor]
    report: ConditioningReport

    @property
    def hash(self) -> str:
        """Digest of the bytes, shape and dtype of all tensors."""
        return self.report.conditioning


def no_statistics(wanted: StatisticsName) -> ReferenceStatistics:
    """Stands for a reader of statistics where no recipe takes any."""
    raise LookupError(f"{wanted} are wanted, but nothing was given that reads them")


def no_map(wanted: str) -> FittedMap:
    """Stands for a reader of maps where no recipe takes any."""
    raise LookupError(f"map {wanted} is wanted, but nothing was given that reads it")


def build_conditioning(
    recipe: Recipe,
    read_states: ReadStates,
    read_statistics: ReadStatistics = no_statistics,
    caption_norm: CaptionNorm | None = None,
    read_map: ReadMap = no_map,
) -> Conditioning:
    """Applies a recipe.

    Args:
        recipe: recipe to build.
        read_states: Gives the hidden states that the recipe names, by key and entry.
        read_statistics: Gives the statistics that the recipe names.
        caption_norm: Caption norm of the generator that the recipe names; None for no report of what it sees.
        read_map: Gives the fitted map that the recipe names.

    Raises:
        ValueError: where the token mode selects nothing, naming the mode.
        FloatingPointError: where the result is not finite.
    """
    alphas = alphas_of_recipe(recipe)
    layers = [build_layer(layer, alphas, read_states, read_statistics, read_map) for layer in recipe.layers]
    text = put_together([layer.padded(layer.text) for layer in layers], recipe.layout)
    captions = {
        alpha: put_together([layer.padded(layer.blended[alpha]) for layer in layers], recipe.layout)
        for alpha in dict.fromkeys(alphas)
    }
    results = [captions[alpha] for alpha in alphas]
    distinct, of_step = distinct_tensors([cast(result, recipe.dtype) for result in results])
    tensors = {"prompt_embeds": distinct[0]}
    if len(distinct) > 1:
        tensors = {
            "prompt_embeds": torch.stack(distinct),
            "prompt_embeds_of_step": torch.tensor(of_step),
        }
    negative = None
    if recipe.negative is not None:
        parts = (read_states(recipe.negative, layer.text.layer) for layer in recipe.layers)
        native = [without_pads(states, recipe.dropped_prefix) for states in parts]
        negative = put_together([torch.cat([as_float32(text), pads]) for text, pads in native], recipe.layout)
        tensors["negative_prompt_embeds"] = cast(negative, recipe.dtype)
    report = ConditioningReport(
        **vars(facts_of_layers(layers)),
        conditioning=conditioning_hash(tensors),
        tokens=distinct[0].shape[0],
        warnings=warnings_of_layers(layers),
        negative_tokens=None if negative is None else negative.shape[0],
        alphas=tuple(alphas) if len(set(alphas)) > 1 else (),
        visible_change=caption_norm and caption_norm.relative_change(results, text),
        sketch=caption_norm and caption_norm.sketch(results, negative),
    )
    return Conditioning(tensors, report)


@dataclass(frozen=True)
class BuiltLayer:
    """One layer of a conditioning, before layers are put together.

    Attributes:
        layer: entry of `hidden_states` of the generator's own text encoder.
        text: float32 (tokens, dim), the text alone, without pads.
        blended: alpha -> float32 (tokens, dim); the text where the layer has no source.
        pads: float32 (pads, dim), what the text encoder gives for pads after the text.
        facts: For the report; None where the layer has no source.
        warnings: what transforms warned of.
    """

    layer: int
    text: torch.Tensor
    blended: Mapping[float, torch.Tensor]
    pads: torch.Tensor
    facts: "SourceFacts | None"
    warnings: tuple[str, ...]

    def padded(self, states: torch.Tensor) -> torch.Tensor:
        """Returns states with pads after them, as many tokens as the text has with its pads.

        What is longer than the text takes the place of the first pads, so that the others keep their positions; after
        what is shorter, the first pad is repeated.
        """
        missing = len(self.text) - len(states)
        if not len(self.pads):
            return states
        if missing > 0:
            return torch.cat([states, self.pads[:1].expand(missing, -1), self.pads])
        return torch.cat([states, self.pads[-missing:]])


def build_layer(
    recipe: Recipe,
    alphas: Sequence[float],
    read_states: ReadStates,
    read_statistics: ReadStatistics,
    read_map: ReadMap = no_map,
) -> BuiltLayer:
    """Returns one layer of a conditioning at every alpha.

    Args:
        recipe: recipe of the layer, see `Recipe.layers`.
        alphas: As `alphas_of_recipe` returns them.
        read_states: As for `build_conditioning`.
        read_statistics: As for `build_conditioning`.
        read_map: As for `build_conditioning`.
    """
    native = read_states(recipe.text.key, recipe.text.layer)
    text_states, pads = without_pads(native, recipe.dropped_prefix)
    text = as_float32(text_states)
    distinct = dict.fromkeys(alphas)
    if not recipe.sources:
        return BuiltLayer(recipe.text.layer, text, dict.fromkeys(distinct, text), pads, None, ())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        grafting = Grafting(recipe, text_states, read_states, read_statistics, read_map)
        blended = {alpha: grafting.blend_at(alpha) if alpha else text for alpha in distinct}
    if recipe.noise is not None:
        blended = {alpha: equal_norm_noise(text, of, recipe.noise) for alpha, of in blended.items()}
    # A blend that is computed at several alphas says the same of each.
    warned = tuple(dict.fromkeys(str(item.message) for item in caught))
    return BuiltLayer(recipe.text.layer, text, blended, pads, grafting.facts, warned)


def without_pads(states: HiddenStates, dropped_prefix: int) -> tuple[HiddenStates, torch.Tensor]:
    """Returns the text that a generator is given, and the states of the pads after it, float32 (pads, dim).

    Args:
        states: Hidden states of the generator's own text encoder.
        dropped_prefix: First tokens that the generator is not given.
    """
    is_pad = states.roles == ROLE_CODES["pad"]
    if not dropped_prefix and not is_pad.any():
        return states, torch.zeros(0, states.values.shape[1])
    kept = np.flatnonzero(~is_pad)[dropped_prefix:]
    return tokens_at(states, kept), as_float32(tokens_at(states, np.flatnonzero(is_pad)))


def tokens_at(states: HiddenStates, positions: np.ndarray) -> HiddenStates:
    """Returns the hidden states of some tokens, int (kept,)."""
    return HiddenStates(
        values=states.values[positions],
        dtype=states.dtype,
        token_ids=states.token_ids[positions],
        roles=states.roles[positions],
        positions=states.positions[:, positions],
        in_prompt=states.in_prompt[positions],
    )


def put_together(layers: Sequence[torch.Tensor], layout: str) -> torch.Tensor:
    """Returns the caption that a generator is given.

    Args:
        layers: float32 (tokens, dim) for each of its conditioning layers.
        layout: See `models.families.CaptionFormat`.

    Returns:
        float32 (tokens, dim) for `single`, (tokens, layers * dim) for `channels`, (tokens, layers, dim) for `stack`.

    Raises:
        ValueError: where the layers differ in their number of tokens.
    """
    if layout == "single":
        (caption,) = layers
        return caption
    lengths = [len(states) for states in layers]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"the layers of the conditioning have {', '.join(map(str, lengths))} tokens, and the generator takes layers of "
            "one length; choose another length_matching, or let hidden_layer replace every layer"
        )
    stacked = torch.stack(list(layers), dim=1)
    return stacked.flatten(1) if layout == "channels" else stacked


def facts_of_layers(layers: Sequence[BuiltLayer]) -> "SourceFacts":
    """Returns the facts of a conditioning: tokens are those of its first layer with a source, which others share."""
    grafted = [layer for layer in layers if layer.facts is not None]
    if len(layers) == 1 or not grafted:
        return grafted[0].facts if grafted else SourceFacts(0)
    return replace(
        grafted[0].facts,
        masked_dimensions=_by_layer([(part.layer, part.facts.masked_dimensions) for part in grafted]),
        fixed_dimensions=_by_layer([(part.layer, part.facts.fixed_dimensions) for part in grafted]),
    )


def warnings_of_layers(layers: Sequence[BuiltLayer]) -> tuple[str, ...]:
    """Returns what transforms warned of, with the layer where there are several."""
    if len(layers) == 1:
        return layers[0].warnings
    return _by_layer([(layer.layer, layer.warnings) for layer in layers])


def _by_layer(lines: Sequence[tuple[int, Sequence[str]]]) -> tuple[str, ...]:
    return tuple(f"{line} (layer {layer})" for layer, own in lines for line in own)


def equal_norm_noise(text: torch.Tensor, blended: torch.Tensor, seed: int) -> torch.Tensor:
    """Returns the text with each token changed as far as in a blend, in a random direction.

    With text t, blend b and noise e, token by token: t + |b - t| e / |e|. Tokens of the blend beyond the text's own are
    random directions of their norm.

    Args:
        text: float32 (tokens, dim).
        blended: float32 (tokens of the blend, dim).
        seed: seed of the noise; the same at every alpha, and another one than that of the image.
    """
    rows = min(len(text), len(blended))
    start = torch.zeros_like(blended)
    start[:rows] = text[:rows]
    noise = torch.randn(blended.shape, generator=torch.Generator().manual_seed(seed))
    change = torch.linalg.vector_norm(blended - start, dim=1)
    return start + noise * (change / torch.linalg.vector_norm(noise, dim=1))[:, None]


def alphas_of_recipe(recipe: Recipe) -> list[float]:
    """Returns the alpha of each step; a single one where all steps have the same, 0 for the text alone."""
    of = recipe.alpha_over_sigma
    if of is None:
        return list(recipe.alphas) or [0.0]
    sigmas = generator_family(of.family).scheduler_sigmas(
        of.scheduler, of.num_inference_steps, of.image_tokens, of.first_step
    )
    schedule = AlphaSchedule.model_validate({**of.schedule, "over": "sigma"})
    shares = alphas_of_steps(schedule, of.num_inference_steps - of.first_step, sigmas.tolist())
    (highest,) = recipe.alphas
    return scheduled_alphas(highest, shares)


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


@dataclass(frozen=True)
class Step:
    """The transform that a recipe chose for a stage, with what it takes.

    Attributes:
        chosen: The transform.
        parameters: Instance of its model.
        statistics: fields of `Context` of this stage alone: `statistics`, or `donor` and `host`.
        map: The fitted map, for a mapping that takes one.
    """

    chosen: Transform
    parameters: TransformParameters
    statistics: Mapping[str, ReferenceStatistics]
    map: FittedMap | None = None

    def __call__(self, source: torch.Tensor, context: Context) -> Any:
        """Calls a masking, a dimension fix, a mapping or a normalization."""
        return self.chosen.function(
            source, self.parameters, replace(context, map=self.map, **self.statistics)
        )


@dataclass(frozen=True)
class SourceFacts:
    """Columns of tables about a source; see `ConditioningReport`."""

    source_tokens: int
    source_tokens_used: float | None = None
    masked_dimensions: tuple[str, ...] = ()
    fixed_dimensions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A source on its way to the blend.

    Attributes:
        states: float32 (tokens, dim).
        context: context of the blend; of several sources that are combined, that of the first.
        facts: For the report.
    """

    states: torch.Tensor
    context: Context
    facts: SourceFacts


class Grafting:
    """The stages of a recipe that has a source, applied up to the blend.

    Attributes:
        facts: For the report.
    """

    def __init__(
        self,
        recipe: Recipe,
        text_states: HiddenStates,
        read_states: ReadStates,
        read_statistics: ReadStatistics = no_statistics,
        read_map: ReadMap = no_map,
    ) -> None:
        """Applies every stage but the blend.

        Args:
            recipe: recipe to build.
            text_states: Hidden states of the generator's own text encoder.
            read_states: As for `build_conditioning`.
            read_statistics: As for `build_conditioning`.
            read_map: As for `build_conditioning`.
        """
        self._recipe = recipe
        self._read_statistics, self._read_map = read_statistics, read_map
        self._text_states = text_states
        self._text = as_float32(text_states)
        warn_of_sinks("the text", self._text, text_states, np.ones(len(text_states.roles), dtype=bool))
        self._mapping = self._step("mapping")
        self._blend = self._step("blend")
        self._matching = self._step("length_matching")
        sources, neutral = (
            [read_states(part.key, part.layer) for part in parts]
            for parts in (recipe.sources, recipe.neutral_sources)
        )
        source = self._combine(sources)
        self._source, self._context, self.facts = source.states, source.context, source.facts
        if NEUTRAL_SOURCE in self._blend.chosen.needs:
            self._context = replace(self._context, neutral=self._combine(neutral).states)

    def blend_at(self, alpha: float) -> torch.Tensor:
        """Returns text and source blended, float32 (tokens, dim); alpha is in (0, 1]."""
        blend = self._blend
        if self._matching.chosen.keeps_length and blend.chosen.takes_own_length == "at alpha 1":
            return self._source
        return blend.chosen.function(self._text, self._source, alpha, blend.parameters, self._context)

    @property
    def _takes_whole_source(self) -> bool:
        return WHOLE_SOURCE in self._blend.chosen.needs

    def _step(self, stage: str) -> Step:
        """Returns the transform that the recipe chose for a stage, with its parameters and statistics."""
        choice = self._recipe.stages[stage]
        chosen = transform(stage, choice.name)
        names: dict[str, StatisticsName] = dict(choice.corpus_statistics)
        if choice.file_statistics is not None:
            names[STATISTICS] = choice.file_statistics
        statistics = {part: self._read_statistics(name) for part, name in names.items()}
        for part, name in names.items():
            what = chosen.name if part == STATISTICS else f"{chosen.name}, {part}"
            _warn_of_fit(what, statistics[part], name.tokens)
        if chosen.needs_statistics and not statistics:
            roles = self._text_states.roles
            statistics[STATISTICS] = prompt_statistics(self._text.numpy(), roles, COVARIANCE in chosen.needs)
        fitted = None if choice.map is None else self._read_map(choice.map)
        return Step(chosen, chosen.parameters_of(choice.parameters), statistics, fitted)

    def _combine(self, sources: Sequence[HiddenStates]) -> Source:
        """Returns the source as the blend takes it.

        Its context is that of the first: the layers of one input have the same tokens. A map over layers makes one source
        of them.
        """
        together = self._mapping.map.layers if self._mapping.map is not None else 1
        prepared = [
            self._prepare(sources[first : first + together]) for first in range(0, len(sources), together)
        ]
        combination = self._step("combination")
        states = combination.chosen.function([part.states for part in prepared], combination.parameters)
        return Source(states, prepared[0].context, merged_facts([part.facts for part in prepared]))

    def _prepare(self, layers: Sequence[HiddenStates]) -> Source:
        """Returns one source before it is combined; of several layers of one input for a map over layers."""
        states = layers[0]
        selected = selected_tokens(self._recipe.stages["token_mode"], states)
        whole = [as_float32(layer) for layer in layers]
        context = Context(
            text=self._text,
            text_roles=self._text_states.roles,
            text_token_ids=self._text_states.token_ids,
            source_roles=states.roles[selected],
            source_token_ids=states.token_ids[selected],
            text_in_prompt=self._text_states.in_prompt,
            source_in_prompt=states.in_prompt[selected],
            source_sinks=find_sinks(whole[0].numpy(), states.roles)[selected],
        )
        warn_of_sinks("the source", whole[0], states, selected)
        changed = []
        for values in whole:
            source = values[torch.from_numpy(selected)]
            source, masked = self._step("masking")(source, context)
            source, fixed = self._step("dimension_fix")(source, context)
            changed.append(source)
        source = self._mapping(torch.stack(changed), context)
        source = self._step("normalization")(source, context)
        facts = SourceFacts(source.shape[0], None, tuple(masked), tuple(fixed))
        if not self._takes_whole_source:
            matching = self._matching
            wanted, tokens = self._blend.chosen.tokens_wanted, self._text.shape[0]
            if wanted is not None:
                tokens = wanted(self._blend.parameters, tokens)
            facts = replace(facts, source_tokens_used=share_of_source_used(matching, source, tokens))
            source = matching.chosen.function(source, tokens, matching.parameters)
        return Source(source, context, facts)


def merged_facts(facts: Sequence[SourceFacts]) -> SourceFacts:
    """Returns the facts of several sources as one: tokens added up, shares by the number of tokens."""
    if len(facts) == 1:
        return facts[0]
    tokens = sum(part.source_tokens for part in facts)
    used = [
        part.source_tokens_used * part.source_tokens for part in facts if part.source_tokens_used is not None
    ]
    return SourceFacts(
        tokens,
        sum(used) / tokens if len(used) == len(facts) else None,
        _numbered([part.masked_dimensions for part in facts]),
        _numbered([part.fixed_dimensions for part in facts]),
    )


def _numbered(lines: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(f"{line} (source {number})" for number, own in enumerate(lines, start=1) for line in own)


def selected_tokens(choice: StageChoice, states: HiddenStates) -> np.ndarray:
    """Returns which tokens a token mode selects: bool (tokens,).

    Raises:
        ValueError: where it selects none, naming the mode.
    """
    chosen = transform("token_mode", choice.name)
    mask = chosen.function(states.roles, chosen.parameters_of(choice.parameters))
    if not mask.any():
        raise ValueError(
            f"token_mode {chosen.name!r} selects none of the {len(mask)} tokens; choose another token_mode"
        )
    return mask


def warn_of_sinks(owner: str, values: torch.Tensor, states: HiddenStates, selected: np.ndarray) -> None:
    """Warns of attention sinks among the selected tokens that are not the template's own at position 0.

    Args:
        owner: Whose tokens they are.
        values: float32 (tokens, dim), all tokens.
        states: hidden states that they are selected from.
        selected: bool (tokens,), which of them take part.
    """
    norms = massive_norms(values.numpy(), states.roles)
    expected = (np.arange(len(norms)) == 0) & ~states.in_prompt
    found = np.flatnonzero((norms > 0.0) & selected & ~expected)
    if len(found) == 0:
        return
    named = [
        f"{position} ({'a word of the prompt' if states.in_prompt[position] else ROLES[states.roles[position]]}, "
        f"{norms[position]:.3g} times the typical norm)"
        for position in found[:_MOST_NAMED].tolist()
    ]
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    warnings.warn(
        f"{owner} has {len(found)} attention sink{'s' * (len(found) > 1)} among the tokens that take part, at position "
        f"{', '.join(named)}{more}",
        stacklevel=2,
    )


def _warn_of_fit(what: str, statistics: ReferenceStatistics, tokens: int | str) -> None:
    """Warns of sinks beyond position 0 in the corpus of statistics; `tokens` is their class, or a number for a file."""
    sinks = statistics.further_sinks
    if sinks is not None and sinks.are_worth_a_warning:
        done = "sinks count, for tokens are all" if tokens == "all" else "sinks are left out"
        warnings.warn(f"statistics of a corpus for {what}, where {done}: {sinks.described()}", stacklevel=2)


def as_float32(states: HiddenStates) -> torch.Tensor:
    """Returns stored hidden states as float32 (tokens, dim); bfloat16 widens exactly."""
    if states.dtype == "bfloat16":
        return torch.from_numpy(states.values.view(np.int16)).view(torch.bfloat16).float()
    return torch.from_numpy(states.values)


def share_of_source_used(matching: Step, source: torch.Tensor, tokens: int) -> float:
    """Returns which share of the source's tokens has a weight other than 0 after a length matching.

    Without weights of its own, the matching is linear in the tokens: what it does to an identity matrix is its weights.

    Args:
        matching: The length matching.
        source: float32 (m, dim).
        tokens: number of tokens that it is matched to.
    """
    chosen, parameters = matching.chosen, matching.parameters
    if chosen.weights is not None:
        return share_of_weights(chosen.weights(source, tokens, parameters))
    return share_of_weights(chosen.function(torch.eye(source.shape[0]), tokens, parameters))


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
