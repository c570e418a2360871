"""What a transform may use beside its source and its parameters."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from graftwork.statistics.reference import ReferenceStatistics

# What a registration may say that its transform needs.
# Reference statistics: those that the cell's parameter `statistics` names.
STATISTICS = "statistics"
# Reference statistics with a covariance, or with the median root mean square of tokens.
COVARIANCE = "covariance"
TOKEN_RMS = "median_token_rms"
# Statistics of donor and host over the corpus `fix_corpus`.
FIT_STATISTICS = "fit_statistics"
# The source of `neutral_reference`, made as the source of the reference is.
NEUTRAL_SOURCE = "neutral_source"
# The source as it is before length matching.
WHOLE_SOURCE = "whole_source"
# Tokens of text, or of an image, in the source.
TEXT_TOKENS = "text_tokens"
IMAGE_TOKENS = "image_tokens"
NEEDS = (
    STATISTICS,
    COVARIANCE,
    TOKEN_RMS,
    FIT_STATISTICS,
    NEUTRAL_SOURCE,
    WHOLE_SOURCE,
    TEXT_TOKENS,
    IMAGE_TOKENS,
)
# Needs that are about reference statistics; the value is the attribute of `ReferenceStatistics` that is wanted.
STATISTICS_WITH = {COVARIANCE: "covariance", TOKEN_RMS: "median_token_rms"}


@dataclass(frozen=True, eq=False)
class Context:
    """What a transform may use beside its source and its parameters.

    Attributes:
        text: float32 (n, dim), the same prompt from the generator's own text encoder.
        text_roles: uint8 (n,), codes of `graftwork.models.tokens.ROLES`.
        text_token_ids: int64 (n,).
        source_roles: uint8 (m,), of the selected tokens of the source, before length matching.
        source_token_ids: int64 (m,).
        statistics: For needs `STATISTICS`, `COVARIANCE` and `TOKEN_RMS`.
        donor: For `FIT_STATISTICS`: statistics of the encoder that the source is from.
        host: For `FIT_STATISTICS`: statistics of the generator's own text encoder.
        neutral: For `NEUTRAL_SOURCE`: float32 (k, dim), after the same transforms as the source.
    """

    text: "torch.Tensor"
    text_roles: np.ndarray
    text_token_ids: np.ndarray
    source_roles: np.ndarray
    source_token_ids: np.ndarray
    statistics: "ReferenceStatistics | None" = None
    donor: "ReferenceStatistics | None" = None
    host: "ReferenceStatistics | None" = None
    neutral: "torch.Tensor | None" = None
