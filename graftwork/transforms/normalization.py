"""Normalization: the source's hidden states brought to another scale, or to another distribution.

Each function takes the selected source tokens, float32 (tokens, dim), its parameters and the context, of which it uses the
text and statistics. It returns float32 (tokens, dim).
"""

import warnings
from typing import TYPE_CHECKING, Annotated, Literal
from weakref import WeakKeyDictionary

import numpy as np
from pydantic import Field

from graftwork.core.parameters import Share, parameter
from graftwork.statistics.sink import find_sinks
from graftwork.transforms.context import COVARIANCE, STATISTICS, TOKEN_RMS, Context
from graftwork.transforms.moments import (
    channel_moments,
    overall_std,
    standardize_channels,
)
from graftwork.transforms.reference_choice import StatisticsChoice, statistics_parameter
from graftwork.transforms.registry import TransformParameters, register

if TYPE_CHECKING:
    import torch

    from graftwork.statistics.reference import ReferenceStatistics


class GlobalParameters(TransformParameters):
    """Parameters of `normalize_globally`."""

    target_std: Annotated[float, Field(gt=0)] | Literal["prompt"] = parameter(
        "prompt",
        neutral="prompt",
        description="Standard deviation after normalization: a number above 0, or `prompt`, the one measured on the "
        "same prompt's own text embeddings without attention sinks.",
    )


@register("normalization", "none", formula="x", source="identity", is_default=True, is_neutral=True)
def normalize_none(
    source: "torch.Tensor", parameters: TransformParameters, context: Context
) -> "torch.Tensor":
    """Returns the source as it is."""
    return source


def std_without_sink(states: "torch.Tensor", roles: np.ndarray) -> float:
    """Returns the standard deviation (ddof 1) of all values but those of attention sinks.

    These tokens alone can make most of the variance of a whole sequence, so a standard deviation with them says how
    long the sequence is and little else.
    """
    return float(states[~find_sinks(states.numpy(), roles)].std())


@register(
    "normalization",
    "global",
    formula="x * target_std / std(x)",
    source="global scaling of llm-dit-experiments; std over all values, ddof 1",
    parameters=GlobalParameters,
    examples={
        "global": {"alpha": 0.5},
        "global_50": {"target_std": 50.0, "alpha": 0.5},
        "global_70": {"target_std": 70.0, "alpha": 0.5},
    },
)
def normalize_globally(
    source: "torch.Tensor", parameters: GlobalParameters, context: Context
) -> "torch.Tensor":
    """Scales all values by one factor, so that their standard deviation becomes `target_std`; no shift.

    A source without a standard deviation (one value, or all equal) is returned as it is, with a warning.
    """
    # By dimensions, which is exactly 0 for equal values, where rounding leaves 1e-9 or so in a sum over all of them.
    std = overall_std(source.shape[0], *channel_moments(source))
    target = target_of(parameters.target_std, context)
    if std == 0.0:
        warnings.warn("normalization global: the source has no variation; left unchanged", stacklevel=2)
        return source
    return source * (target / std)


def target_of(target_std: float | str, context: Context) -> float:
    """Returns the standard deviation that a value of `target_std` stands for."""
    if target_std == "prompt":
        return std_without_sink(context.text, context.text_roles)
    if target_std == "reference":
        return overall_reference_std(context.statistics)
    return float(target_std)


class ReferenceParameters(TransformParameters):
    """Parameters of every normalization that takes reference statistics."""

    statistics: StatisticsChoice = statistics_parameter()
    target_std: Annotated[float, Field(gt=0)] | Literal["prompt", "reference"] | None = parameter(
        None,
        neutral="prompt",
        description="Standard deviation of all values after normalization: a number above 0; `prompt`, the one "
        "measured on the same prompt's own text embeddings without attention sinks; or `reference`, that of the "
        "statistics. `null` is `prompt` for `global`, and no rescaling after the others.",
    )


class PerDimensionParameters(ReferenceParameters):
    """Parameters of `normalize_per_dimension`."""

    clip_sigma: Annotated[float, Field(gt=0)] | None = parameter(
        3.0,
        neutral=3.0,
        unit="standard deviations",
        description="Standard deviations at which `per_dim` and `hybrid` clip; `null` for no clipping.",
    )


class HybridParameters(PerDimensionParameters):
    """Parameters of `normalize_hybrid`."""

    hybrid_weight: Share = parameter(
        0.5, neutral=0.5, description="Weight of `per_dim` in `hybrid`; the rest is `global`."
    )


class WhiteningParameters(ReferenceParameters):
    """Parameters of `normalize_by_whitening`."""

    whiten_shrinkage: Annotated[float, Field(ge=1e-6, le=1)] = parameter(
        0.01,
        neutral=0.01,
        description="How far `whiten` draws both covariances towards equal variances: at 1 only the spread of the "
        "whole and the mean are changed.",
    )


def reference_tensor(values: np.ndarray) -> "torch.Tensor":
    """Returns an array of the statistics as a tensor of its own, for theirs are read-only."""
    import torch

    return torch.from_numpy(np.array(values))


def overall_reference_std(statistics: "ReferenceStatistics") -> float:
    """Returns the standard deviation (ddof 1) of all values that the statistics are of."""
    return overall_std(statistics.n, reference_tensor(statistics.mean), reference_tensor(statistics.std))


def rescale(normalized: "torch.Tensor", target_std: float | str | None, context: Context) -> "torch.Tensor":
    """Multiplies all values, in place, so that their standard deviation becomes `target_std`; None leaves them."""
    if target_std is None:
        return normalized
    target = target_of(target_std, context)
    std = overall_std(normalized.shape[0], *channel_moments(normalized))
    if std == 0.0:
        warnings.warn("target_std: the normalized source has no variation; not rescaled", stacklevel=2)
        return normalized
    return normalized.mul_(target / std)


def warn_of_constants(own_std: "torch.Tensor", name: str) -> None:
    """Warns where dimensions of the source, given by their standard deviation (dim,), have no spread to go by."""
    constant = int((own_std == 0.0).sum())
    if constant:
        warnings.warn(
            f"normalization {name}: {constant} of {len(own_std)} dimensions of the source are constant; they get the "
            "mean of the reference",
            stacklevel=2,
        )


@register(
    "normalization",
    "per_dim",
    formula="(x - mean_d) / max(s_d, 1e-6), clipped to +-clip_sigma, * r_std_d + r_mean_d",
    source="per-dimension normalization of llm-dit-experiments; AdaIN, Huang and Belongie 2017, with stored statistics",
    parameters=PerDimensionParameters,
    needs=(STATISTICS,),
    examples={
        "per_dim": {},
        "per_dim_unclipped": {"clip_sigma": None},
        "per_dim_to_corpus": {"statistics": {"corpus": "miniature"}},
    },
)
def normalize_per_dimension(
    source: "torch.Tensor", parameters: PerDimensionParameters, context: Context
) -> "torch.Tensor":
    """Gives every dimension the mean and the standard deviation that the reference has there."""
    statistics = context.statistics
    statistics.check_width(source.shape[1], "the source")
    result, _, own_std = standardize_channels(source, statistics.mean, statistics.std, parameters.clip_sigma)
    warn_of_constants(own_std, "per_dim")
    return rescale(result, parameters.target_std, context)


@register(
    "normalization",
    "hybrid",
    formula="hybrid_weight * per_dim + (1 - hybrid_weight) * global, to the standard deviation of the reference",
    source="hybrid normalization of llm-dit-experiments",
    parameters=HybridParameters,
    needs=(STATISTICS,),
    examples={"hybrid": {"hybrid_weight": 0.25}},
)
def normalize_hybrid(
    source: "torch.Tensor", parameters: HybridParameters, context: Context
) -> "torch.Tensor":
    """Mixes `per_dim` with the source scaled as a whole."""
    statistics = context.statistics
    statistics.check_width(source.shape[1], "the source")
    # Weighted before it is applied: mean and standard deviation are what the result is linear in.
    weight = np.float32(parameters.hybrid_weight)
    mean, std = weight * statistics.mean, weight * statistics.std
    result, own_mean, own_std = standardize_channels(source, mean, std, parameters.clip_sigma)
    warn_of_constants(own_std, "hybrid")
    whole = overall_std(source.shape[0], own_mean, own_std)
    if whole == 0.0:
        warnings.warn("normalization hybrid: the source has no variation; not scaled", stacklevel=2)
    factor = overall_reference_std(statistics) / whole if whole else 1.0
    result.add_(source, alpha=(1.0 - parameters.hybrid_weight) * factor)
    return rescale(result, parameters.target_std, context)


@register(
    "normalization",
    "rms",
    formula="x / rms(token) * the median rms of the reference's tokens",
    source="Zhang and Sennrich, Root Mean Square Layer Normalization, 2019, without its weights",
    parameters=ReferenceParameters,
    needs=(TOKEN_RMS,),
    examples={
        "rms": {"alpha": 0.5},
        "rms_to_corpus": {"statistics": {"corpus": "miniature", "tokens": "prompt"}, "alpha": 0.5},
    },
)
def normalize_by_rms(
    source: "torch.Tensor", parameters: ReferenceParameters, context: Context
) -> "torch.Tensor":
    """Gives every token the same root mean square; directions stay. A token of zeros stays one, with a warning."""
    import torch

    rms = torch.linalg.vector_norm(source, dim=1) / source.shape[1] ** 0.5
    empty = rms == 0.0
    if bool(empty.any()):
        warnings.warn(f"normalization rms: {int(empty.sum())} tokens are zero and stay so", stacklevel=2)
    factors = torch.where(empty, 0.0, context.statistics.require("median_token_rms") / rms)
    return rescale(source * factors[:, None], parameters.target_std, context)


def whiten_tokens(centred: "torch.Tensor", shrinkage: float) -> "torch.Tensor":
    """Returns centred tokens times the inverse square root of their own covariance, shrunk to its mean variance.

    Args:
        centred: float64 (tokens, dim), mean 0 over tokens, two tokens or more, not all zero.
        shrinkage: Share of the mean variance, above 0.
    """
    import torch

    tokens, channels = centred.shape
    # The covariance over tokens and the one over dimensions have the same spectrum; the smaller is decomposed.
    few = tokens <= channels
    scatter = centred @ centred.T if few else centred.T @ centred
    values, vectors = torch.linalg.eigh(scatter / (tokens - 1))
    variance = values.sum().clamp(min=0.0) / channels
    shrunk = (1.0 - shrinkage) * values.clamp(min=0.0) + shrinkage * variance
    root = vectors * shrunk.rsqrt() @ vectors.T
    return root @ centred if few else centred @ root


# Statistics -> what `covariance_spectrum` found: seconds at a width of thousands, and the same for every recipe of a sweep.
_SPECTRA: "WeakKeyDictionary[ReferenceStatistics, tuple[torch.Tensor, torch.Tensor]]" = WeakKeyDictionary()


def covariance_spectrum(statistics: "ReferenceStatistics") -> "tuple[torch.Tensor, torch.Tensor]":
    """Returns eigenvalues, float64 (k,), and eigenvectors, float64 (dim, k), of the covariance; the others are 0.

    Computed once for each object.
    """
    if statistics not in _SPECTRA:
        covariance = reference_tensor(statistics.require("covariance")).double()
        _SPECTRA[statistics] = decompose_covariance(covariance, statistics.n)
    return _SPECTRA[statistics]


def decompose_covariance(covariance: "torch.Tensor", tokens: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """Returns what `covariance_spectrum` does, of a float64 (dim, dim) that is of so many tokens."""
    import torch

    channels = covariance.shape[0]
    if tokens >= channels // 2:
        return torch.linalg.eigh(covariance)
    # It has fewer directions than tokens. Halko, Martinsson and Tropp 2011, exact up to rounding where there are as many
    # samples as directions.
    samples = torch.randn(
        channels, tokens, dtype=covariance.dtype, generator=torch.Generator().manual_seed(0)
    )
    basis = torch.linalg.qr(covariance @ samples).Q
    values, vectors = torch.linalg.eigh(basis.T @ covariance @ basis)
    return values, basis @ vectors


def colour_tokens(
    white: "torch.Tensor", values: "torch.Tensor", vectors: "torch.Tensor", shrinkage: float
) -> "torch.Tensor":
    """Returns tokens times the square root of a covariance, shrunk to its mean variance.

    Args:
        white: float64 (tokens, dim).
        values: float64 (k,), eigenvalues of the covariance; the others are 0.
        vectors: float64 (dim, k), its eigenvectors.
        shrinkage: Share of the mean variance, above 0.
    """
    base = shrinkage * values.sum() / vectors.shape[0]
    gains = ((1.0 - shrinkage) * values.clamp(min=0.0) + base).sqrt() - base.sqrt()
    return base.sqrt() * white + (white @ vectors * gains) @ vectors.T


@register(
    "normalization",
    "whiten",
    formula="(x - mean) C_s^(-1/2) C_r^(1/2) + r_mean, with C = (1 - whiten_shrinkage) cov + whiten_shrinkage * mean "
    "variance",
    source="whitening and colouring transform, Li et al., Universal Style Transfer via Feature Transforms, 2017; ZCA",
    parameters=WhiteningParameters,
    needs=(COVARIANCE,),
    examples={"whiten": {}, "whiten_to_corpus": {"statistics": {"corpus": "miniature"}}},
)
def normalize_by_whitening(
    source: "torch.Tensor", parameters: WhiteningParameters, context: Context
) -> "torch.Tensor":
    """Gives the source the mean and the covariance of the reference. In float64; seconds at a width of thousands."""
    statistics = context.statistics
    statistics.check_width(source.shape[1], "the source")
    mean = reference_tensor(statistics.mean)
    if source.shape[0] == 1 or bool((source == source[0]).all()):
        warnings.warn(
            "normalization whiten: the tokens of the source are all equal; they get the mean of the reference",
            stacklevel=2,
        )
        return mean.repeat(source.shape[0], 1)
    centred = source.double()
    centred -= centred.mean(dim=0)
    white = whiten_tokens(centred, parameters.whiten_shrinkage)
    result = colour_tokens(white, *covariance_spectrum(statistics), parameters.whiten_shrinkage) + mean
    return rescale(result.float(), parameters.target_std, context)
