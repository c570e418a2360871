"""Length matching: a source of m tokens brought to the n tokens of the text.

Each function takes float32 (m, dim) and n and returns float32 (k, dim). k is n, or fewer where the source has too
little to say about the last tokens of the text, which a blend then leaves unchanged. The text is never shortened.
"""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from graftwork.transforms.registry import TransformParameters, register, transform

if TYPE_CHECKING:
    import torch


@register("length_matching", "truncate", formula="x[:n]", source="first tokens, as in llm-dit-experiments")
def truncate(source: "torch.Tensor", tokens: int) -> "torch.Tensor":
    """Keeps the first `tokens` rows; a shorter source stays as short as it is."""
    return source[:tokens]


@register(
    "length_matching",
    "linear",
    formula="linear interpolation over token positions, pixel centres aligned, no antialiasing",
    source="torch.nn.functional.interpolate(mode='linear', align_corners=False)",
)
def interpolate_linearly(source: "torch.Tensor", tokens: int) -> "torch.Tensor":
    """Interpolates between neighbouring tokens. Going down, tokens that no sample falls near are not used."""
    import torch

    resized = torch.nn.functional.interpolate(source.T[None], size=tokens, mode="linear", align_corners=False)
    return resized[0].T.contiguous()


@register(
    "length_matching",
    "area",
    formula="mean over the m/n tokens that fall on a position",
    source="torch.nn.functional.adaptive_avg_pool1d",
)
def pool_by_area(source: "torch.Tensor", tokens: int) -> "torch.Tensor":
    """Averages adjacent tokens; every token of the source is used."""
    import torch

    return torch.nn.functional.adaptive_avg_pool1d(source.T[None], tokens)[0].T.contiguous()


@register(
    "length_matching",
    "pad",
    formula="x[:n], then mean(x) up to n tokens",
    source="right padding, as the generator's own, with a token that is typical of the source",
)
def pad_with_mean(source: "torch.Tensor", tokens: int) -> "torch.Tensor":
    """Appends the mean token where the source is shorter, and keeps the first tokens where it is longer."""
    import torch

    missing = tokens - source.shape[0]
    if missing <= 0:
        return source[:tokens]
    return torch.cat([source, source.mean(dim=0, keepdim=True).expand(missing, -1)])


class AttentionPoolParameters(TransformParameters):
    """Parameters of `pool_by_attention`."""

    pool_temperature: Annotated[float, Field(gt=0)] = Field(
        1.0,
        description="How evenly `attention_pool` weighs the tokens of a window: towards 0 the most distinct one alone, "
        "large values all alike, as `area` does.",
    )


def attention_pool_weights(source: "torch.Tensor", tokens: int, *, pool_temperature: float) -> "torch.Tensor":
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
    scores = (distinctness / pool_temperature).expand(tokens, count).masked_fill(~inside, -torch.inf)
    return scores.softmax(dim=1)


@register(
    "length_matching",
    "attention_pool",
    formula="weighted mean over the m/n tokens that fall on a position, weights softmax((1 - mean cosine similarity to "
    "the neighbours) / pool_temperature)",
    source="attention pooling for long prompts in llm-dit-experiments; the windows of `area`",
    parameters=AttentionPoolParameters,
    weights=attention_pool_weights,
)
def pool_by_attention(source: "torch.Tensor", tokens: int, *, pool_temperature: float) -> "torch.Tensor":
    """Averages adjacent tokens, those more that differ from their neighbours."""
    if source.shape[0] == tokens:
        return source
    return attention_pool_weights(source, tokens, pool_temperature=pool_temperature) @ source


# Blends for which a source of its own length, at alpha 1, is the result.
_REPLACING = ("linear", "slerp")


def _problem_with_none(parameters: dict[str, Any]) -> str | None:
    alpha, blend = parameters["alpha"], parameters.get("blend", "linear")
    if alpha == 0.0 or blend == "concat" or transform("blend", blend).whole_source:
        return None
    if alpha == 1.0 and blend in _REPLACING:
        return None
    if blend not in _REPLACING:
        return (
            f"length_matching 'none' keeps the source's own length, but blend {blend!r} goes row by row; allowed: "
            "another length_matching, or the blend linear, slerp (at alpha 1) or concat"
        )
    return (
        f"length_matching 'none' keeps the source's own length, which cannot be mixed with the text at alpha "
        f"{parameters['alpha']}; allowed: alpha 1 (the source alone), or another length_matching"
    )


@register(
    "length_matching",
    "none",
    formula="x",
    source="identity; alpha 1 and concat only",
    problem_with=_problem_with_none,
)
def keep_length(source: "torch.Tensor", tokens: int) -> "torch.Tensor":
    """Returns the source at its own length."""
    return source
