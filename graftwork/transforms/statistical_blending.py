"""Blends that give the text the mean and spread of the source; the signature is that of `blending`."""

from typing import TYPE_CHECKING

from graftwork.transforms.moments import channel_moments, token_moments
from graftwork.transforms.registry import register

if TYPE_CHECKING:
    import torch

_SOURCE = "AdaIN, Huang and Belongie, Arbitrary Style Transfer in Real-time, 2017"


@register(
    "blend",
    "adain",
    formula="alpha * ((t - mean(t)) / std(t) * std(v) + mean(v)) + (1 - alpha) * t, per token over dimensions",
    source=_SOURCE,
)
def blend_adain(
    text: "torch.Tensor", source: "torch.Tensor", alpha: float, *, own_length: bool
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
    source=f"{_SOURCE}, with tokens as positions",
    whole_source=True,
)
def blend_adain_per_dimension(
    text: "torch.Tensor", source: "torch.Tensor", alpha: float, *, own_length: bool
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
