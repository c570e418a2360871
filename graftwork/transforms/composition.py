"""Blends that put sequences together: after each other, from parts of one extraction, or token by token.

Each function takes the same arguments as those in `blending`.
"""

import difflib
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from graftwork.core.parameters import Share, parameter
from graftwork.transforms.context import IMAGE_TOKENS, TEXT_TOKENS, WHOLE_SOURCE, Context
from graftwork.transforms.length_matching import average_areas
from graftwork.transforms.registry import DEFAULT, TransformParameters, choice_of, names_of, register
from graftwork.transforms.token_modes import has_role

if TYPE_CHECKING:
    import torch


class ConcatParameters(TransformParameters):
    """Parameters of `blend_by_appending`."""

    concat_tokens: Annotated[int, Field(ge=1)] | None = parameter(
        None,
        neutral=None,
        unit="tokens",
        description="Tokens that `concat` appends, where the length matching makes as many of the source as it is "
        "asked for; `null` for as many as the text has.",
    )


def _problem_with_concat(parameters: Mapping[str, Any]) -> str | None:
    alpha, tokens = parameters["alpha"], parameters.get("concat_tokens")
    if alpha not in (0.0, 1.0):
        return f"blend 'concat' has no alpha, but alpha is {alpha}; allowed: 1, or 0 for the text alone"
    if tokens is None:
        return None
    if choice_of("length_matching", parameters).keeps_length:
        allowed = names_of("length_matching", lambda entry: not entry.keeps_length)
        return (
            f"concat_tokens {tokens} needs a length matching that makes as many tokens; allowed: length_matching "
            f"{', '.join(allowed)}, or no concat_tokens"
        )
    most = parameters.get("most_tokens")
    if most is not None and tokens >= most:
        return f"concat_tokens {tokens} leaves no room for the text: the generator takes {most} tokens; choose fewer"
    return None


def tokens_to_append(parameters: ConcatParameters, text_tokens: int) -> int:
    """Returns how many tokens the source is matched to."""
    return parameters.concat_tokens or text_tokens


@register(
    "blend",
    "concat",
    formula="t, then v; alpha 1 only",
    source="in-context conditioning: the generator attends to both",
    parameters=ConcatParameters,
    problem_with=_problem_with_concat,
    takes_own_length="always",
    has_alpha=False,
    tokens_wanted=tokens_to_append,
    examples={"concat": {"concat_tokens": 8}},
)
def blend_by_appending(
    text: "torch.Tensor", source: "torch.Tensor", alpha: float, parameters: ConcatParameters, context: Context
) -> "torch.Tensor":
    """Appends the source to the text. It was matched to `concat_tokens` tokens, or has its own length."""
    import torch

    return torch.cat([text, source])


class IntraParameters(TransformParameters):
    """Parameters of `blend_within_source`."""

    image_share: Share = parameter(
        0.5,
        neutral=0.5,
        description="Weight of the image tokens in `intra`; the rest is the encoder's own text tokens.",
    )


def _problem_with_intra(parameters: Mapping[str, Any]) -> str | None:
    mode = choice_of("token_mode", parameters)
    if not mode.selects_all:
        allowed = ", ".join(names_of("token_mode", lambda entry: entry.selects_all))
        return (
            f"blend 'intra' needs image and text tokens, but token_mode is {mode.name!r}; allowed: {allowed}"
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
    needs=(WHOLE_SOURCE, TEXT_TOKENS, IMAGE_TOKENS),
    examples={"intra": {"token_mode": DEFAULT, "image_share": 0.25}},
)
def blend_within_source(
    text: "torch.Tensor", source: "torch.Tensor", alpha: float, parameters: IntraParameters, context: Context
) -> "torch.Tensor":
    """Mixes image and text tokens of one extraction, then that with the text.

    Raises:
        ValueError: where one of the two is missing.
    """
    import torch

    image = torch.from_numpy(has_role(context.source_roles, "image"))
    words = torch.from_numpy(~has_role(context.source_roles, "image", "vision_marker"))
    if not bool(image.any()) or not bool(words.any()):
        raise ValueError(
            f"blend 'intra' needs image and text tokens; the source has {int(image.sum())} and {int(words.sum())}"
        )
    tokens = text.shape[0]
    pictured = average_areas(source[image], tokens)
    # With the same prompt and template, both have the same tokens of text, in the same order.
    written = source[words] if int(words.sum()) == tokens else average_areas(source[words], tokens)
    return torch.lerp(text, torch.lerp(written, pictured, parameters.image_share), alpha)


def pair_tokens(
    text_ids: np.ndarray, text_in_prompt: np.ndarray, source_ids: np.ndarray, source_in_prompt: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns which tokens of the prompt are the same in both sequences, in order: int64 (pairs,) of each.

    Args:
        text_ids: int64 (n,).
        text_in_prompt: bool (n,), which of them are of the prompt.
        source_ids: int64 (m,), of the same vocabulary.
        source_in_prompt: bool (m,).
    """
    own, other = np.flatnonzero(text_in_prompt), np.flatnonzero(source_in_prompt)
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
    needs=(WHOLE_SOURCE, TEXT_TOKENS),
    examples={"ensemble": {"alpha": 0.5}},
)
def blend_same_tokens(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    parameters: TransformParameters,
    context: Context,
) -> "torch.Tensor":
    """Mixes each token of the prompt with the same token in the source.

    Raises:
        ValueError: where no token is the same.
    """
    import torch

    own, other = pair_tokens(
        context.text_token_ids, context.text_in_prompt, context.source_token_ids, context.source_in_prompt
    )
    prompt = int(context.text_in_prompt.sum())
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
