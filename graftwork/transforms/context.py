"""Inputs of a transform beside its source and its parameters."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graftwork.models.tokens import ROLE_CODES

if TYPE_CHECKING:
    import torch

    from graftwork.maps.fitted import FittedMap
    from graftwork.statistics.reference import ReferenceStatistics

STATISTICS = "statistics"
COVARIANCE = "covariance"
TOKEN_RMS = "median_token_rms"
FIT_STATISTICS = "fit_statistics"
NEUTRAL_SOURCE = "neutral_source"
WHOLE_SOURCE = "whole_source"
TEXT_TOKENS = "text_tokens"
IMAGE_TOKENS = "image_tokens"
FITTED_MAP = "fitted_map"
VECTOR = "vector"
# What a registration may say that its transform needs, in words.
NEEDS = {
    STATISTICS: "reference statistics: those that the parameter `statistics` names",
    COVARIANCE: "reference statistics with their covariance",
    TOKEN_RMS: "reference statistics with the median root mean square of tokens",
    FIT_STATISTICS: "statistics of donor and host over the corpus `fix_corpus`",
    NEUTRAL_SOURCE: "the source of `neutral_reference`, made in the same way",
    WHOLE_SOURCE: "the source as it is before length matching",
    TEXT_TOKENS: "tokens of text in the source",
    IMAGE_TOKENS: "tokens of an image in the source",
    FITTED_MAP: "a map that was fitted on a corpus",
    VECTOR: "a vector in the place of the source: that which the parameter `vector` names",
}
# Needs that are about reference statistics; the value is the attribute of `ReferenceStatistics` that is wanted.
STATISTICS_WITH = {COVARIANCE: "covariance", TOKEN_RMS: "median_token_rms"}


@dataclass(frozen=True, eq=False)
class Context:
    """Inputs of a transform beside its source and its parameters.

    Attributes:
        text: float32 (n, dim), the same prompt from the generator's own text encoder.
        text_roles: uint8 (n,), codes of `graftwork.models.tokens.ROLES`.
        text_token_ids: int64 (n,).
        source_roles: uint8 (m,), of the selected tokens of the source, before length matching.
        source_token_ids: int64 (m,).
        text_in_prompt: bool (n,), which tokens are of the prompt, whatever their role; None for those in role `prompt`.
        source_in_prompt: bool (m,), the same of the source.
        source_sinks: bool (m,), which tokens are sinks, found among all tokens of the source; None for those in role
            `sink`.
        statistics: For needs `STATISTICS`, `COVARIANCE` and `TOKEN_RMS`.
        donor: For `FIT_STATISTICS`: statistics of the encoder that the source is from.
        host: For `FIT_STATISTICS`: statistics of the generator's own text encoder.
        neutral: For `NEUTRAL_SOURCE`: float32 (k, dim), after the same transforms as the source.
        map: For `FITTED_MAP`.
    """

    text: "torch.Tensor"
    text_roles: np.ndarray
    text_token_ids: np.ndarray
    source_roles: np.ndarray
    source_token_ids: np.ndarray
    text_in_prompt: np.ndarray | None = None
    source_in_prompt: np.ndarray | None = None
    source_sinks: np.ndarray | None = None
    statistics: "ReferenceStatistics | None" = None
    donor: "ReferenceStatistics | None" = None
    host: "ReferenceStatistics | None" = None
    neutral: "torch.Tensor | None" = None
    map: "FittedMap | None" = None

    def __post_init__(self) -> None:
        """Takes what is not given from the roles."""
        for name, roles, role in (
            ("text_in_prompt", self.text_roles, "prompt"),
            ("source_in_prompt", self.source_roles, "prompt"),
            ("source_sinks", self.source_roles, "sink"),
        ):
            if getattr(self, name) is None and roles is not None:
                object.__setattr__(self, name, roles == ROLE_CODES[role])
