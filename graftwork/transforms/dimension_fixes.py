"""Fixes of single dimensions: another encoder's states brought closer to those that the generator was trained on.

A fix is fitted on statistics, of the donor (the other encoder) and of the host (the generator's own), and applied to
states of any prompt. Fit on one set of prompts, judge on another.

The registered functions take the selected source tokens, float32 (tokens, dim), their parameters and the context, of which
they use roles and the statistics of donor and host. They return float32 (tokens, dim) and what they changed, one text per
dimension.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from graftwork.core.code_digest import outside_digests
from graftwork.core.parameters import parameter
from graftwork.statistics.dimensions import (
    DimensionLimits,
    compare_dimensions,
    dead_dimensions,
    std_ratio,
)
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.transforms.context import FIT_STATISTICS, Context
from graftwork.transforms.outliers import rows_of_class
from graftwork.transforms.reference_choice import TokenClass
from graftwork.transforms.registry import DEFAULT, TransformParameters, register

if TYPE_CHECKING:
    import torch

FixMode = Literal["rescale", "mask", "clamp", "full"]
# Half the width to which `clamp` holds a dimension, in standard deviations of the host.
CLAMP_SIGMA = 3.0


@dataclass(frozen=True, eq=False)
class DimensionFix:
    """Linear map and bounds of each dimension: min(max(x * scale + shift, low), high).

    Attributes:
        mode: kind of the fit.
        scale: float32 (channels,), 0 where a dimension is silenced.
        shift: float32 (channels,).
        low: float32 (channels,), minus infinity where nothing is clamped.
        high: float32 (channels,), infinity where nothing is clamped.
        changed: Kind of change -> sorted dimensions, for reports.
    """

    mode: str
    scale: np.ndarray
    shift: np.ndarray
    low: np.ndarray
    high: np.ndarray
    changed: dict[str, list[int]]


def fit_dimension_fix(
    mode: FixMode,
    donor: ReferenceStatistics,
    host: ReferenceStatistics,
    limits: DimensionLimits | None = None,
) -> DimensionFix:
    """Fits a fix.

    `rescale` multiplies outliers (ratio of standard deviations above the limit or below its inverse) to the host's
    standard deviation; `mask` also silences dimensions that are dead in the donor alone; `clamp` also holds those that
    are hyperactive in the donor alone to the host's mean +- 3 standard deviations; `full` gives every dimension the
    host's mean and standard deviation. Source: fix modes of llm-dit-experiments for Qwen3-Embedding.

    A dimension that is dead in the donor has no spread to rescale: what little it has is noise, and would be multiplied
    by hundreds. `rescale` leaves it alone, and `full` gives it the host's mean.

    Args:
        mode: One of the four.
        donor: Statistics of the encoder to be fixed.
        host: Statistics of the generator's own text encoder, of the same width.
        limits: Where classes of dimensions begin.

    Raises:
        ValueError: for another mode, or another width.
    """
    if mode not in get_args(FixMode):
        raise ValueError(f"fix mode {mode!r} does not exist; allowed: {', '.join(get_args(FixMode))}")
    limits = limits or DimensionLimits()
    found = compare_dimensions(donor.std, host.std, limits)
    dead = dead_dimensions(donor.std, limits)
    channels = donor.channels
    scale, shift = np.ones(channels), np.zeros(channels)
    low, high = np.full(channels, -np.inf), np.full(channels, np.inf)
    to_host = np.divide(1.0, std_ratio(donor.std, host.std), out=np.zeros(channels), where=~dead)
    changed: dict[str, np.ndarray] = {}
    if mode == "full":
        scale = to_host
        shift = host.mean - donor.mean * scale
        changed = {"standardized": np.flatnonzero(~dead), "set to the mean": np.flatnonzero(dead)}
    else:
        outliers = np.union1d(found.outlier.only_a, found.outlier.only_b)
        outliers = outliers[~dead[outliers]]
        scale[outliers] = to_host[outliers]
        changed["rescaled"] = outliers
    if mode in ("mask", "clamp"):
        scale[found.dead.only_a] = 0.0
        changed["silenced"] = found.dead.only_a
    if mode == "clamp":
        held = found.hyperactive.only_a
        low[held] = host.mean[held] - CLAMP_SIGMA * host.std[held]
        high[held] = host.mean[held] + CLAMP_SIGMA * host.std[held]
        changed["clamped"] = held
    return DimensionFix(
        mode,
        *(part.astype(np.float32) for part in (scale, shift, low, high)),
        {kind: dimensions.tolist() for kind, dimensions in changed.items()},
    )


def apply_dimension_fix(states: "torch.Tensor", fix: DimensionFix, in_place: bool = False) -> "torch.Tensor":
    """Returns the states with a fix applied: float32 (tokens, channels), of any tokens.

    Args:
        states: float32 (tokens, channels).
        fix: map of each dimension.
        in_place: Overwrite the states.

    Raises:
        ValueError: where the states are of another width than the fix.
    """
    import torch

    if states.shape[1] != len(fix.scale):
        raise ValueError(f"the fix is for {len(fix.scale)} dimensions, the states have {states.shape[1]}")
    scale, shift, low, high = (torch.from_numpy(part) for part in (fix.scale, fix.shift, fix.low, fix.high))
    result = torch.addcmul(shift, states, scale, out=states if in_place else None)
    if bool(torch.isfinite(low).any()):
        result.clamp_(low, high)
    return result


class FixParameters(TransformParameters):
    """Parameters of every dimension fix."""

    fix_corpus: str | None = parameter(
        None,
        neutral=None,
        description="Corpus that a dimension fix is fitted on, a name in config/corpora/: `encoder` at `hidden_layer` "
        "against the generator's own text encoder at `text_hidden_layer`.",
    )
    fix_tokens: TokenClass = parameter(
        "non_sink",
        neutral="non_sink",
        description="Tokens that a dimension fix is fitted on and changes, by class. Of `image` the text encoder has none: "
        "there its `non_sink` tokens count.",
    )


# How many dimensions are named in the table of cells.
_MOST_LISTED = 32
_SOURCE = "fix modes of llm-dit-experiments for Qwen3-Embedding"


def host_class(fix_tokens: str) -> str:
    """Returns the token class of the host that one of the donor is fitted to."""
    return "non_sink" if fix_tokens == "image" else fix_tokens


def _problem_with_fix(parameters: Mapping[str, Any]) -> str | None:
    if parameters.get("fix_corpus") is None:
        return (
            f"dimension_fix {parameters['dimension_fix']!r} needs fix_corpus, the corpus that it is fitted on; allowed: a "
            "name in config/corpora/, or dimension_fix: none"
        )
    if parameters.get("source") == "vision_tower":
        return (
            f"dimension_fix {parameters['dimension_fix']!r} is fitted on layers of the language model, which source "
            "'vision_tower' has no part in; set source: hidden_states, or dimension_fix: none"
        )
    return None


def described_changes(fix: DimensionFix) -> list[str]:
    """Returns "dimension change" for each, with the factor where it was multiplied, most extreme first; of many a count."""
    lines = []
    for kind, dimensions in fix.changed.items():
        if kind == "rescaled":
            factors = fix.scale[dimensions]
            order = np.argsort(-np.maximum(factors, 1.0 / factors), kind="stable")
            lines += [f"{dimensions[i]} {kind} {factors[i]:.4g}" for i in order]
        else:
            lines += [f"{dimension} {kind}" for dimension in dimensions]
    if fix.mode == "full":
        counts = ((kind, len(dimensions)) for kind, dimensions in fix.changed.items())
        return [f"{count} {kind}" for kind, count in counts if count]
    more = [f"and {len(lines) - _MOST_LISTED} more"] if len(lines) > _MOST_LISTED else []
    return lines[:_MOST_LISTED] + more


def fix_tokens_of_class(
    mode: FixMode, source: "torch.Tensor", parameters: FixParameters, context: Context
) -> "tuple[torch.Tensor, list[str]]":
    """Fits a fix and applies it to the tokens of a class; warns where the source has none."""
    rows = rows_of_class(parameters.fix_tokens, context.source_roles, context.source_sinks)
    if rows is None:
        warnings.warn(
            f"dimension_fix: the selected tokens include none of class {parameters.fix_tokens}; nothing is fixed",
            stacklevel=2,
        )
        return source, []
    fix = fit_dimension_fix(mode, context.donor, context.host)
    result = source.clone()
    if isinstance(rows, slice):
        apply_dimension_fix(result[rows], fix, in_place=True)  # A view.
    else:
        result[rows[:, 0]] = apply_dimension_fix(source[rows[:, 0]], fix)
    return result, described_changes(fix)


@outside_digests("registers a function, whose digest is in the recipe")
def register_fix(
    name: FixMode, formula: str, **about: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a dimension fix; see `register`."""
    common = {"parameters": FixParameters, "needs": (FIT_STATISTICS,), "problem_with": _problem_with_fix}
    return register("dimension_fix", name, formula=formula, source=_SOURCE, **common, **about)


@register("dimension_fix", "none", formula="x", source="identity", is_default=True, is_neutral=True)
def fix_none(
    source: "torch.Tensor", parameters: TransformParameters, context: Context
) -> "tuple[torch.Tensor, list[str]]":
    """Returns the source as it is."""
    return source, []


@register_fix(
    "rescale",
    "x_d * h_std_d / e_std_d where e_std_d / h_std_d is above 3 or below 1/3",
    examples={"fix_rescale": {"fix_corpus": "miniature", "hidden_layer": -6}},
)
def fix_by_rescaling(
    source: "torch.Tensor", parameters: FixParameters, context: Context
) -> "tuple[torch.Tensor, list[str]]":
    """Multiplies outlier dimensions to the host's standard deviation; those that are dead in the donor stay."""
    return fix_tokens_of_class("rescale", source, parameters, context)


@register_fix(
    "mask",
    "rescale, and x_d = 0 where e_std_d < 0.01 and h_std_d is not",
    examples={
        "fix_mask": {
            "token_mode": DEFAULT,
            "fix_corpus": "miniature",
            "fix_tokens": "image",
            "hidden_layer": -1,
        }
    },
)
def fix_by_silencing(
    source: "torch.Tensor", parameters: FixParameters, context: Context
) -> "tuple[torch.Tensor, list[str]]":
    """Rescales, and silences dimensions that are dead in the donor alone."""
    return fix_tokens_of_class("mask", source, parameters, context)


@register_fix(
    "clamp",
    "mask, and x_d held to h_mean_d +- 3 h_std_d where e_std_d is above 5 times its median and h_std_d is not",
    examples={"fix_clamp": {"fix_corpus": "miniature", "fix_tokens": "all", "hidden_layer": -4}},
)
def fix_by_clamping(
    source: "torch.Tensor", parameters: FixParameters, context: Context
) -> "tuple[torch.Tensor, list[str]]":
    """Rescales, silences, and clamps dimensions that are hyperactive in the donor alone."""
    return fix_tokens_of_class("clamp", source, parameters, context)


@register_fix(
    "full",
    "(x_d - e_mean_d) / e_std_d * h_std_d + h_mean_d; h_mean_d where e_std_d < 0.01",
    examples={"fix_full": {"fix_corpus": "miniature", "fix_tokens": "all"}},
)
def fix_fully(
    source: "torch.Tensor", parameters: FixParameters, context: Context
) -> "tuple[torch.Tensor, list[str]]":
    """Gives every dimension the mean and standard deviation of the host, going by those of the donor over the corpus."""
    return fix_tokens_of_class("full", source, parameters, context)
