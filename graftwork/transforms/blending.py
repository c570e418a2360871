"""Blends that mix text and source into one conditioning, row by row or by mean and spread.

Each function takes the text, float32 (n, dim), the source after length matching, float32 (k, dim), alpha in (0, 1], its
parameters and the context. It returns float32 (tokens, dim). Rows of the text that the source does not reach stay as they
are. Alpha 0 never gets here: it is the text, bit for bit.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from graftwork.core.parameters import Share, parameter
from graftwork.transforms.context import WHOLE_SOURCE, Context
from graftwork.transforms.moments import channel_moments, token_moments
from graftwork.transforms.registry import TransformParameters, register

if TYPE_CHECKING:
    import torch


@register(
    "blend",
    "linear",
    formula="alpha * v + (1 - alpha) * t; rows of t that v does not reach stay as they are",
    source="linear interpolation",
    is_default=True,
    takes_own_length="at alpha 1",
)
def blend_linearly(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    parameters: TransformParameters,
    context: Context,
) -> "torch.Tensor":
    """Mixes row by row."""
    import torch

    rows = min(text.shape[0], source.shape[0])
    # Exact at both ends, and one pass over the values where the formula as it is written takes three.
    mixed = torch.lerp(text[:rows], source[:rows], alpha)
    return mixed if rows == text.shape[0] else torch.cat([mixed, text[rows:]])


def mix_rows(text: "torch.Tensor", source: "torch.Tensor", weights: "torch.Tensor") -> "torch.Tensor":
    """Mixes row by row, each with its own weight, exact at 0 and 1.

    Args:
        text: float32 (n, dim).
        source: float32 (k, dim).
        weights: float32 (n,), how much of the source.
    """
    import torch

    rows = min(text.shape[0], source.shape[0])
    mixed = torch.lerp(text[:rows], source[:rows], weights[:rows, None])
    return mixed if rows == text.shape[0] else torch.cat([mixed, text[rows:]])


def exact_angle(a: "torch.Tensor", b: "torch.Tensor") -> "torch.Tensor":
    """Returns the angles between rows, float32 (rows,) of float32 (rows, dim); not a number where a row is zero.

    2 atan2(|a - b|, |a + b|) of unit vectors, in float64: Kahan, How Futile are Mindless Assessments of Roundoff in
    Floating-Point Computation, 2006.
    """
    import torch

    a, b = (part.double() / torch.linalg.vector_norm(part.double(), dim=1, keepdim=True) for part in (a, b))
    distance, length = (torch.linalg.vector_norm(part, dim=1) for part in (a - b, a + b))
    return (2.0 * torch.atan2(distance, length)).float()


@register(
    "blend",
    "slerp",
    formula="|.| = alpha * |v| + (1 - alpha) * |t|, direction sin((1 - alpha) w) t/|t| + sin(alpha w) v/|v| over sin w, "
    "w the angle between the two; linear where they are parallel, opposite or zero",
    source="Shoemake, Animating Rotation with Quaternion Curves, 1985, per token; magnitudes linearly",
    takes_own_length="at alpha 1",
    examples={"slerp": {"alpha": 0.5}},
)
def blend_on_sphere(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    parameters: TransformParameters,
    context: Context,
) -> "torch.Tensor":
    """Turns each token of the text towards the source's."""
    import torch

    rows = min(text.shape[0], source.shape[0])
    own, other = text[:rows], source[:rows]
    own_norm, other_norm = (torch.linalg.vector_norm(part, dim=1) for part in (own, other))
    # Twice as fast as torch.linalg.vecdot, which writes the products down before it adds them.
    product = torch.from_numpy(np.einsum("ij,ij->i", own.numpy(), other.numpy()))
    cosine = product / (own_norm * other_norm)
    angle = cosine.clamp(-1.0, 1.0).acos()
    # Near 0 and pi a cosine in float32 says too little about the angle, which the weights divide by the sine of.
    flat = angle.sin() < 0.1
    if bool(flat.any()):
        angle[flat] = exact_angle(own[flat], other[flat])
    sine = angle.sin()
    magnitude = (1.0 - alpha) * own_norm + alpha * other_norm
    # Not a number where a norm is zero: no angle either.
    straight = ~(sine > 1e-3)
    own_weight = torch.where(
        straight, 1.0 - alpha, ((1.0 - alpha) * angle).sin() / sine * magnitude / own_norm
    )
    other_weight = torch.where(straight, alpha, (alpha * angle).sin() / sine * magnitude / other_norm)
    mixed = (own * own_weight[:, None]).addcmul_(other, other_weight[:, None])
    return mixed if rows == text.shape[0] else torch.cat([mixed, text[rows:]])


class StyleOnlyParameters(TransformParameters):
    """Parameters of `blend_dimensions`."""

    style_dimensions: (
        Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)] | None
    ) = parameter(
        None,
        neutral=None,
        description="First dimension that `style_only` mixes, and the one after the last; `null` for the last third.",
    )


def _problem_with_style_dimensions(parameters: Mapping[str, Any]) -> str | None:
    if parameters.get("style_dimensions") is None:
        return None
    first, end = parameters["style_dimensions"]
    width = parameters.get("width")
    if first < end and (width is None or end <= width):
        return None
    most = f"with end up to {width}, the width of the hidden states" if width else "with end after first"
    return f"style_dimensions {[first, end]} is no range of dimensions; allowed: [first, end] {most}"


@register(
    "blend",
    "style_only",
    formula="alpha * v_d + (1 - alpha) * t_d in the dimensions of style_dimensions, t_d in the others",
    source="style-only blending of llm-dit-experiments",
    parameters=StyleOnlyParameters,
    examples={"style_only": {"style_dimensions": [64, 128]}},
    problem_with=_problem_with_style_dimensions,
)
def blend_dimensions(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    parameters: StyleOnlyParameters,
    context: Context,
) -> "torch.Tensor":
    """Mixes a range of dimensions and leaves the others to the text."""
    width = text.shape[1]
    first, end = parameters.style_dimensions or (width * 2 // 3, width)
    rows = min(text.shape[0], source.shape[0])
    result = text.clone()
    result[:rows, first:end].lerp_(source[:rows, first:end], alpha)
    return result


class GraduatedParameters(TransformParameters):
    """Parameters of `blend_graduated`."""

    curve: Literal["linear", "ease_in", "ease_out"] = parameter(
        "linear",
        neutral="linear",
        description="How `graduated` goes from `curve_start` to `curve_end` over the tokens of the text.",
    )
    curve_start: Share = parameter(
        0.0, neutral=0.0, description="What `graduated` multiplies alpha with at the first token of the text."
    )
    curve_end: Share = parameter(
        1.0, neutral=1.0, description="What `graduated` multiplies alpha with at the last token of the text."
    )


def curve_values(curve: str, start: float, end: float, tokens: int) -> "torch.Tensor":
    """Returns start + c(p) (end - start) for p from 0 to 1, float32 (tokens,); one token has p = 0.

    c is p, p^2 (ease_in) or 1 - (1 - p)^2 (ease_out).
    """
    import torch

    p = torch.linspace(0.0, 1.0, tokens)
    progress = {"linear": p, "ease_in": p.square(), "ease_out": 1.0 - (1.0 - p).square()}[curve]
    return start + progress * (end - start)


@register(
    "blend",
    "graduated",
    formula="a_i v_i + (1 - a_i) t_i, a_i = alpha * (curve_start + c(p) (curve_end - curve_start)), p = i / (n - 1), "
    "c(p) = p, p^2 (ease_in) or 1 - (1 - p)^2 (ease_out)",
    source="graduated alpha of llm-dit-experiments",
    parameters=GraduatedParameters,
    examples={"graduated": {"curve": "ease_in"}},
)
def blend_graduated(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    parameters: GraduatedParameters,
    context: Context,
) -> "torch.Tensor":
    """Mixes with an alpha that changes along the text."""
    curve = curve_values(parameters.curve, parameters.curve_start, parameters.curve_end, text.shape[0])
    return mix_rows(text, source, alpha * curve)


class PerTokenParameters(TransformParameters):
    """Parameters of `blend_per_token`."""

    token_alphas: Annotated[list[Share], Field(min_length=1, max_length=4096)] | None = parameter(
        None,
        neutral=None,
        description="What `per_token` multiplies alpha with, from the first token of the text on; the last holds for "
        "all that follow.",
    )


class AttentionWeightedParameters(TransformParameters):
    """Parameters of `blend_attention_weighted`."""

    token_importance: (
        Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1, max_length=4096)] | None
    ) = parameter(
        None,
        neutral=None,
        description="How much `attention_weighted` protects each token of the text, from the first on, in any unit; "
        "the last holds for all that follow.",
    )


def per_token_values(values: list[float], tokens: int) -> "torch.Tensor":
    """Returns a list as float32 (tokens,), cut off, or its last value repeated."""
    import torch

    return torch.tensor([values[min(position, len(values) - 1)] for position in range(tokens)])


def _requires(name: str) -> Callable[[Mapping[str, Any]], str | None]:
    def problem(parameters: Mapping[str, Any]) -> str | None:
        if parameters.get(name) is not None:
            return None
        return (
            f"blend {parameters['blend']!r} needs {name}: a list of numbers, such as {name}: [0.0, 0.5, 1.0]"
        )

    return problem


@register(
    "blend",
    "per_token",
    formula="a_i v_i + (1 - a_i) t_i, a_i = alpha * token_alphas_i",
    source="per-token blending of llm-dit-experiments",
    parameters=PerTokenParameters,
    examples={"per_token": {"token_alphas": [0.0, 0.5, 1.0]}},
    problem_with=_requires("token_alphas"),
)
def blend_per_token(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    parameters: PerTokenParameters,
    context: Context,
) -> "torch.Tensor":
    """Mixes each token with an alpha of its own."""
    return mix_rows(text, source, alpha * per_token_values(parameters.token_alphas, text.shape[0]))


@register(
    "blend",
    "attention_weighted",
    formula="a_i v_i + (1 - a_i) t_i, a_i = alpha * (1 - 0.8 w_i), w = token_importance scaled to 0 ... 1; all 0 "
    "where it is constant",
    source="attention-weighted blending of llm-dit-experiments",
    parameters=AttentionWeightedParameters,
    examples={"attention_weighted": {"token_importance": [0.0, 1.0, 2.0]}},
    problem_with=_requires("token_importance"),
)
def blend_attention_weighted(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    parameters: AttentionWeightedParameters,
    context: Context,
) -> "torch.Tensor":
    """Mixes less into tokens that are said to matter more."""
    importance = per_token_values(parameters.token_importance, text.shape[0])
    importance -= importance.min()
    highest = importance.max()
    if highest > 0.0:
        importance /= highest
    return mix_rows(text, source, alpha * (1.0 - 0.8 * importance))


class NoiseParameters(TransformParameters):
    """Parameters of `blend_noise`."""

    noise_seed: Annotated[int, Field(ge=0, lt=2**63)] = parameter(
        0, neutral=0, description="Seed of the noise that `noise` adds; the seed of the image is another."
    )


@register(
    "blend",
    "noise",
    formula="t_i + alpha * |v_i - t_i| * e_i / |e_i|, e normally distributed",
    source="control: a step as long as that of `linear`, in no particular direction",
    parameters=NoiseParameters,
    examples={"noise": {"alpha": 0.5}},
)
def blend_noise(
    text: "torch.Tensor", source: "torch.Tensor", alpha: float, parameters: NoiseParameters, context: Context
) -> "torch.Tensor":
    """Moves each token of the text as far as `linear` would, in a random direction."""
    import torch

    rows = min(text.shape[0], source.shape[0])
    noise = torch.randn(rows, text.shape[1], generator=torch.Generator().manual_seed(parameters.noise_seed))
    step = torch.linalg.vector_norm(source[:rows] - text[:rows], dim=1)
    noise *= (alpha * step / torch.linalg.vector_norm(noise, dim=1))[:, None]
    result = text.clone()
    result[:rows] += noise
    return result


_ADAIN = "AdaIN, Huang and Belongie, Arbitrary Style Transfer in Real-time, 2017"


@register(
    "blend",
    "adain",
    formula="alpha * ((t - mean(t)) / std(t) * std(v) + mean(v)) + (1 - alpha) * t, per token over dimensions",
    source=_ADAIN,
    examples={"adain": {}},
)
def blend_adain(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    parameters: TransformParameters,
    context: Context,
) -> "torch.Tensor":
    """Gives each token of the text the mean and the spread of the source's. A token without spread gets the mean."""
    import torch

    rows = min(text.shape[0], source.shape[0])
    own = text[:rows]
    mean, std = token_moments(own)
    source_mean, source_std = token_moments(source[:rows])
    ratio = torch.where(std > 0.0, source_std / std, 0.0)
    shift = alpha * (source_mean - mean * ratio)
    mixed = (own * (alpha * ratio + (1.0 - alpha))[:, None]).add_(shift[:, None])
    return mixed if rows == text.shape[0] else torch.cat([mixed, text[rows:]])


@register(
    "blend",
    "adain_per_dim",
    formula="alpha * ((t - mean_d(t)) / std_d(t) * std_d(x) + mean_d(x)) + (1 - alpha) * t, per dimension over tokens, x "
    "all selected tokens of the source: length matching has no part in it",
    source=f"{_ADAIN}, with tokens as positions",
    needs=(WHOLE_SOURCE,),
    examples={"adain_per_dim": {}},
)
def blend_adain_per_dimension(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    parameters: TransformParameters,
    context: Context,
) -> "torch.Tensor":
    """Gives each dimension of the text the mean and the spread that it has over the source's tokens.

    `source` is float32 (m, dim), as before length matching. A dimension in which all tokens of the text are equal gets
    the mean.
    """
    import torch

    mean, std = channel_moments(text)
    source_mean, source_std = channel_moments(source)
    ratio = torch.where(std > 0.0, source_std / std, 0.0)
    return torch.addcmul(
        alpha * source_mean + (1.0 - alpha) * mean, text - mean, alpha * ratio + (1.0 - alpha)
    )
