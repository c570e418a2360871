"""Length matching: a source of m tokens brought to the n tokens of the text.

Each function takes float32 (m, dim), n and its parameters, and returns float32 (k, dim). k is n, or fewer where the source has too
little to say about the last tokens of the text, which a blend then leaves unchanged. The text is never shortened.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from graftwork.core.parameters import parameter
from graftwork.transforms.context import WHOLE_SOURCE
from graftwork.transforms.registry import Transform, TransformParameters, choice_of, names_of, register

if TYPE_CHECKING:
    import torch


# A setting that makes the source longer than the text, so that its length has to be matched.
LONGER = {"system_prompt": "You describe pictures."}


@register(
    "length_matching", "truncate", formula="x[:n]", source="first tokens", examples={"truncate": LONGER}
)
def truncate(source: "torch.Tensor", tokens: int, parameters: TransformParameters) -> "torch.Tensor":
    """Keeps the first `tokens` rows; a shorter source stays as short as it is."""
    return source[:tokens]


@register(
    "length_matching",
    "linear",
    formula="linear interpolation over token positions, pixel centres aligned, no antialiasing",
    source="torch.nn.functional.interpolate(mode='linear', align_corners=False)",
    examples={"linear_length": LONGER},
)
def interpolate_linearly(
    source: "torch.Tensor", tokens: int, parameters: TransformParameters
) -> "torch.Tensor":
    """Interpolates between neighbouring tokens. Going down, tokens that no sample falls near are not used."""
    import torch

    resized = torch.nn.functional.interpolate(source.T[None], size=tokens, mode="linear", align_corners=False)
    return resized[0].T.contiguous()


def average_areas(source: "torch.Tensor", tokens: int) -> "torch.Tensor":
    """Returns the means of adjacent tokens: float32 (m, dim) to (tokens, dim)."""
    import torch

    return torch.nn.functional.adaptive_avg_pool1d(source.T[None], tokens)[0].T.contiguous()


@register(
    "length_matching",
    "area",
    formula="mean over the m/n tokens that fall on a position",
    source="torch.nn.functional.adaptive_avg_pool1d",
    is_default=True,
)
def pool_by_area(source: "torch.Tensor", tokens: int, parameters: TransformParameters) -> "torch.Tensor":
    """Averages adjacent tokens; every token of the source is used."""
    return average_areas(source, tokens)


@register(
    "length_matching",
    "pad",
    formula="x[:n], then mean(x) up to n tokens",
    source="right padding, as the generator's own, with a token that is typical of the source",
    examples={"pad": {"source_text": {"text": "a striped background"}}},
)
def pad_with_mean(source: "torch.Tensor", tokens: int, parameters: TransformParameters) -> "torch.Tensor":
    """Appends the mean token where the source is shorter, and keeps the first tokens where it is longer."""
    import torch

    missing = tokens - source.shape[0]
    if missing <= 0:
        return source[:tokens]
    return torch.cat([source, source.mean(dim=0, keepdim=True).expand(missing, -1)])


class AttentionPoolParameters(TransformParameters):
    """Parameters of `pool_by_attention`."""

    pool_temperature: Annotated[float, Field(gt=0)] = parameter(
        1.0,
        neutral=1.0,
        description="How evenly `attention_pool` weighs the tokens of a window: towards 0 the most distinct one alone, "
        "large values all alike, as `area` does.",
    )


def attention_pool_weights(
    source: "torch.Tensor", tokens: int, parameters: AttentionPoolParameters
) -> "torch.Tensor":
    """Returns the weight of each source token in each row: float32 (m, dim) to (tokens, m), rows sum to 1.

    A token counts by how distinct it is: 1 minus its mean cosine similarity to the up to two tokens before and after.
    """
    import torch

    count = source.shape[0]
    directions = torch.nn.functional.normalize(source, dim=1)
    similarity, neighbours = torch.zeros(count), torch.zeros(count)
    for distance in range(1, min(3, count)):
        cosine = torch.linalg.vecdot(directions[distance:], directions[:-distance])
        similarity[distance:] += cosine
        similarity[:-distance] += cosine
        neighbours[distance:] += 1
        neighbours[:-distance] += 1
    distinctness = 1.0 - similarity / neighbours.clamp(min=1)
    # The windows of torch.nn.functional.adaptive_avg_pool1d.
    rows, columns = torch.arange(tokens)[:, None], torch.arange(count)[None]
    inside = (columns >= rows * count // tokens) & (columns < -((rows + 1) * count // -tokens))
    scores = (
        (distinctness / parameters.pool_temperature).expand(tokens, count).masked_fill(~inside, -torch.inf)
    )
    return scores.softmax(dim=1)


@register(
    "length_matching",
    "attention_pool",
    formula="weighted mean over the m/n tokens that fall on a position, weights softmax((1 - mean cosine similarity to "
    "the neighbours) / pool_temperature)",
    source="attention pooling for long prompts in llm-dit-experiments; the windows of `area`",
    parameters=AttentionPoolParameters,
    weights=attention_pool_weights,
    examples={"attention_pool": LONGER},
)
def pool_by_attention(
    source: "torch.Tensor", tokens: int, parameters: AttentionPoolParameters
) -> "torch.Tensor":
    """Averages adjacent tokens, those more that differ from their neighbours."""
    if source.shape[0] == tokens:
        return source
    return attention_pool_weights(source, tokens, parameters) @ source


def _problem_with_own_length(parameters: Mapping[str, Any]) -> str | None:
    alpha, blend = parameters["alpha"], choice_of("blend", parameters)
    if alpha == 0.0 or blend.takes_own_length == "always" or WHOLE_SOURCE in blend.needs:
        return None
    if blend.takes_own_length == "never":
        return (
            f"length_matching 'none' keeps the source's own length, but blend {blend.name!r} goes row by row; allowed: "
            f"another length_matching, or one of the blends {_blends_of_own_length()}"
        )
    if alpha == 1.0:
        return None
    return (
        f"length_matching 'none' keeps the source's own length, which cannot be mixed with the text at alpha {alpha}; "
        "allowed: alpha 1 (the source alone), or another length_matching"
    )


def _blends_of_own_length() -> str:
    def when(entry: Transform) -> str:
        return "" if entry.takes_own_length == "always" else f" ({entry.takes_own_length})"

    names = names_of("blend", lambda entry: entry.takes_own_length != "never")
    return ", ".join(f"{name}{when(choice_of('blend', {'blend': name}))}" for name in names)


@register(
    "length_matching",
    "none",
    formula="x",
    source="identity",
    problem_with=_problem_with_own_length,
    keeps_length=True,
    examples={"own_length": LONGER},
)
def keep_length(source: "torch.Tensor", tokens: int, parameters: TransformParameters) -> "torch.Tensor":
    """Returns the source at its own length."""
    return source
