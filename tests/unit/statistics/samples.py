"""Hidden states for tests: ordinary, with massive activations, and of the range of float16 and bfloat16."""

import numpy as np
from hypothesis import strategies as st

from graftwork.models.tokens import ROLE_CODES, ROLES
from graftwork.statistics.accumulator import decode_states

WIDTH = 4


def gaussian(
    tokens: int, width: int = WIDTH, seed: int = 0, scale: float = 3.0, shift: float = 0.5
) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (tokens, width)).astype(np.float32)


def with_sink(tokens: int, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """Token 0 has massive activations in the first two dimensions."""
    states = gaussian(tokens, width, seed)
    states[0, :2] = 13504.0, -4544.0
    return states


def role_codes(*names: str) -> np.ndarray:
    return np.array([ROLE_CODES[name] for name in names], dtype=np.uint8)


def roles_of(tokens: int, seed: int = 0) -> np.ndarray:
    """A sink, then any roles."""
    roles = np.random.default_rng(seed).integers(0, len(ROLES), tokens).astype(np.uint8)
    roles[roles == ROLE_CODES["sink"]] = ROLE_CODES["prompt"]
    roles[:1] = ROLE_CODES["sink"]
    return roles


def float32_ulp(value: np.ndarray) -> np.ndarray:
    return np.spacing(np.abs(value).astype(np.float32)).astype(np.float64)


_finite_bfloat16 = st.integers(0, 0xFFFF).filter(lambda bits: bits & 0x7F80 != 0x7F80)


@st.composite
def states(draw, min_tokens: int = 0, max_tokens: int = 9, width: int = WIDTH) -> np.ndarray:
    tokens = draw(st.integers(min_tokens, max_tokens))
    kind = draw(st.sampled_from(["gaussian", "sink", "constant", "float16", "bfloat16"]))
    seed = draw(st.integers(0, 999))
    if kind == "gaussian":
        return gaussian(tokens, width, seed, draw(st.floats(1e-3, 1e3)), draw(st.floats(-1e3, 1e3)))
    if kind == "sink" and tokens:
        return with_sink(tokens, width, seed)
    if kind == "constant":
        return np.full((tokens, width), draw(st.floats(-1e4, 1e4, width=32)), dtype=np.float32)
    cells = tokens * width
    if kind == "bfloat16":
        bits = draw(st.lists(_finite_bfloat16, min_size=cells, max_size=cells))
        return decode_states(np.array(bits, dtype=np.uint16).reshape(tokens, width), "bfloat16")
    values = draw(
        st.lists(st.floats(-65504, 65504, width=16, allow_nan=False), min_size=cells, max_size=cells)
    )
    return np.array(values, dtype=np.float16).reshape(tokens, width)


def with_sinks_at(*positions: int, tokens: int = 12, width: int = 64, seed: int = 0) -> np.ndarray:
    """Tokens at these positions have massive activations in the first two dimensions."""
    states = gaussian(tokens, width, seed)
    states[list(positions), :2] = 13504.0, -4544.0
    return states
