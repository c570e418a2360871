"""Hidden states, roles and statistics to try transforms on."""

import numpy as np
import torch
from hypothesis import strategies as st

from graftwork.models.tokens import ROLE_CODES
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.transforms.context import Context
from graftwork.transforms.registry import STAGES, Transform

DEFAULT_TRANSFORMS = {stage.name: stage.default for stage in STAGES.values()}

lengths = st.integers(1, 24)
widths = st.integers(1, 9)
seeds = st.integers(0, 99)
alphas = st.floats(0, 1, exclude_min=True, width=32)


def states(
    tokens: int, width: int = 6, seed: int = 0, scale: float = 3.0, shift: float = 0.5
) -> torch.Tensor:
    """Normally distributed values; each dimension has a mean of its own."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(width, generator=generator) * shift
    return torch.randn(tokens, width, generator=generator) * scale + means


def kinds_of_states(tokens: int, width: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """States that transforms have to survive."""
    plain = states(tokens, width, seed)
    dead = plain.clone()
    dead[:, :: max(width // 2, 1)] = 0.0
    constant = plain.clone()
    constant[:, 0] = 13510.1
    sink = plain.clone()
    sink[0] *= 1e4
    return {
        "plain": plain,
        "one token": plain[:1],
        "equal tokens": plain[:1].repeat(tokens, 1),
        "equal values": torch.full((tokens, width), 0.1),
        "zeros": torch.zeros(tokens, width),
        "a zero token": torch.cat([plain, torch.zeros(1, width)]),
        "dead dimensions": dead,
        "a constant dimension": constant,
        "a sink": sink,
        "steep": plain * 1e-3 + 1000.0,
        "tiny": plain * 1e-7,
        "huge": plain * 1e12,
    }


def statistics(width: int = 6, seed: int = 7, tokens: int = 50, dead: int = 0) -> ReferenceStatistics:
    """Statistics with a covariance, measured on states; the first `dead` dimensions have no spread."""
    values = states(tokens, width, seed, scale=5.0, shift=20.0)
    values[:, :dead] = 1.5
    values = values.double()
    deviation = values - values.mean(dim=0)
    deviation[:, :dead] = 0.0
    return ReferenceStatistics(
        n=tokens,
        mean=values.mean(dim=0).numpy(),
        std=(deviation.square().sum(dim=0) / (tokens - 1)).sqrt().numpy(),
        median_token_rms=float(values.square().mean(dim=1).sqrt().median()),
        covariance=(deviation.T @ deviation / (tokens - 1)).numpy(),
    )


def roles(names: list[str]) -> np.ndarray:
    """Codes of roles, uint8."""
    return np.array([ROLE_CODES[name] for name in names], dtype=np.uint8)


def defaults(entry: Transform, **changes) -> dict:
    """The parameters of a transform at their defaults, but for those that are given."""
    return entry.defaults | changes


def context(text: torch.Tensor | None = None, **given) -> Context:
    """What a transform may use, as far as it is given."""
    names = ("text_roles", "text_token_ids", "source_roles", "source_token_ids")
    return Context(text, *(given.pop(name, None) for name in names), **given)


def call(entry: Transform, *arguments, around: Context | None = None, **parameters):
    """What a transform makes of its source, with parameters at their defaults but for those that are given.

    Args:
        entry: The transform.
        arguments: What its stage takes before the parameters.
        around: The context, for stages that take one.
        parameters: Those that are not at their default.
    """
    own = entry.parameters_of(defaults(entry, **parameters))
    if "context" in STAGES[entry.stage].arguments:
        return entry.function(*arguments, own, around or context())
    return entry.function(*arguments, own)


def as_the_generator_sees(conditioning: torch.Tensor) -> torch.Tensor:
    """The generator's first caption layer: RMSNorm over channels (diffusers, ZImageTransformer2DModel)."""
    values = conditioning.double()
    return values * (values.square().mean(dim=1, keepdim=True) + 1e-30).rsqrt()
