"""Blends that put sequences together: after each other, from parts of one extraction, or token by token.

The signature is that of `blending`, and what an entry lists as `inputs` comes by keyword:

    source_roles, text_roles            uint8 (m,) and (n,), codes of models/tokens.py
    source_token_ids, text_token_ids    int64 (m,) and (n,)
"""

import difflib
import warnings
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from graftwork.transforms.length_matching import pool_by_area
from graftwork.transforms.registry import TransformParameters, register
from graftwork.transforms.token_modes import has_role

if TYPE_CHECKING:
    import torch


class ConcatParameters(TransformParameters):
    """Parameters of `blend_by_appending`."""

    concat_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Tokens that `concat` appends, where the length matching makes as many of the source as it is "
        "asked for; `null` for as many as the text has.",
    )


def _problem_with_concat(parameters: dict[str, Any]) -> str | None:
    alpha, tokens = parameters["alpha"], parameters.get("concat_tokens")
    if alpha not in (0.0, 1.0):
        return f"blend 'concat' has no alpha, but alpha is {alpha}; allowed: 1, or 0 for the text alone"
    if tokens is None:
        return None
    if parameters.get("length_matching") == "none":
        return (
            f"concat_tokens {tokens} needs a length matching that makes as many tokens; allowed: length_matching area, "
            "linear, attention_pool, truncate or pad, or no concat_tokens"
        )
    most = parameters.get("most_tokens")
    if most is not None and tokens >= most:
        return f"concat_tokens {tokens} leaves no room for the text: the generator takes {most} tokens; choose fewer"
    return None


@register(
    "blend",
    "concat",
    formula="t, then v; alpha 1 only",
    source="in-context conditioning: the generator attends to both",
    parameters=ConcatParameters,
    problem_with=_problem_with_concat,
)
def blend_by_appending(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    *,
    own_length: bool,
    concat_tokens: int | None,
) -> "torch.Tensor":
    """Appends the source to the text. It has been matched to `concat_tokens` tokens, or has its own length."""
    import torch

    return torch.cat([text, source])


class IntraParameters(TransformParameters):
    """Parameters of `blend_within_source`."""

    image_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="Weight of the image tokens in `intra`; the rest is the encoder's own text tokens."
    )


def _problem_with_intra(parameters: dict[str, Any]) -> str | None:
    if parameters.get("token_mode", "full") != "full":
        return (
            f"blend 'intra' needs image and text tokens, but token_mode is {parameters['token_mode']!r}; "
            "allowed: full"
        )
    if parameters["alpha"] != 0.0 and "reference" in parameters and parameters["reference"] is None:
        return (
            "blend 'intra' needs image tokens, but there is no reference; give base.references, or choose "
            "another blend"
        )
    return None


@register(
    "blend",
    "intra",
    formula="alpha * (image_share * area(image tokens of x) + (1 - image_share) * text tokens of x) + (1 - alpha) * t; "
    "length matching has no part in it",
    source="intra-VL blending of llm-dit-experiments",
    parameters=IntraParameters,
    problem_with=_problem_with_intra,
    inputs=("source_roles",),
    whole_source=True,
)
def blend_within_source(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    *,
    own_length: bool,
    source_roles: np.ndarray,
    image_share: float,
) -> "torch.Tensor":
    """Mixes image and text tokens of one extraction, then that with the text.

    Raises:
        ValueError: where one of the two is missing.
    """
    import torch

    image = torch.from_numpy(has_role(source_roles, "image"))
    words = torch.from_numpy(~has_role(source_roles, "image", "vision_marker"))
    if not bool(image.any()) or not bool(words.any()):
        raise ValueError(
            f"blend 'intra' needs image and text tokens; the source has {int(image.sum())} and {int(words.sum())}"
        )
    tokens = text.shape[0]
    pictured = pool_by_area(source[image], tokens)
    # Of the same prompt and template, there are as many as the text has, and each meets its like.
    written = source[words] if int(words.sum()) == tokens else pool_by_area(source[words], tokens)
    return torch.lerp(text, torch.lerp(written, pictured, image_share), alpha)


def pair_tokens(
    text_ids: np.ndarray, text_roles: np.ndarray, source_ids: np.ndarray, source_roles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns which tokens of the prompt are the same in both sequences, in order: int64 (pairs,) of each.

    Args:
        text_ids: int64 (n,).
        text_roles: uint8 (n,).
        source_ids: int64 (m,), of the same vocabulary.
        source_roles: uint8 (m,).
    """
    own = np.flatnonzero(has_role(text_roles, "prompt"))
    other = np.flatnonzero(has_role(source_roles, "prompt"))
    matcher = difflib.SequenceMatcher(
        None, text_ids[own].tolist(), source_ids[other].tolist(), autojunk=False
    )
    pairs = [(a + i, b + i) for a, b, size in matcher.get_matching_blocks() for i in range(size)]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return own[first], other[second]


@register(
    "blend",
    "ensemble",
    formula="alpha * x_j + (1 - alpha) * t_i for tokens of the prompt that are the same, t_i for all others; length "
    "matching has no part in it",
    source="ensemble with another text encoder, as in llm-dit-experiments; pairs as difflib.SequenceMatcher finds them",
    inputs=("text_token_ids", "text_roles", "source_token_ids", "source_roles"),
    whole_source=True,
)
def blend_same_tokens(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    *,
    own_length: bool,
    text_token_ids: np.ndarray,
    text_roles: np.ndarray,
    source_token_ids: np.ndarray,
    source_roles: np.ndarray,
) -> "torch.Tensor":
    """Mixes each token of the prompt with the same token in the source.

    Raises:
        ValueError: where no token is the same.
    """
    import torch

    own, other = pair_tokens(text_token_ids, text_roles, source_token_ids, source_roles)
    prompt = int(has_role(text_roles, "prompt").sum())
    if len(own) == 0:
        raise ValueError(
            f"blend 'ensemble' found none of the {prompt} tokens of the prompt in the source; both encoders must have "
            "one vocabulary, and token_mode must select the prompt"
        )
    if len(own) < prompt:
        warnings.warn(
            f"blend ensemble: {prompt - len(own)} of {prompt} tokens of the prompt are not in the source; they stay as "
            "they are",
            stacklevel=2,
        )
    result = text.clone()
    result[own] = torch.lerp(text[own], source[other], alpha)
    return result
