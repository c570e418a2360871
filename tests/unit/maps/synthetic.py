"""Hidden states of two encoders that are a linear map and some noise apart, as the store gives them."""

from functools import cache

import numpy as np

from graftwork.maps.corpus import PairedCorpus
from graftwork.maps.pairs import InputPair
from graftwork.models.tokens import ROLE_CODES
from graftwork.store.hidden_states import HiddenStates

DIM, TOKENS = 40, 16
_RANDOM = np.random.default_rng(7)
TO_SOURCE = np.eye(DIM) + 0.5 * _RANDOM.standard_normal((DIM, DIM)) / np.sqrt(DIM)
OFFSET = 0.3 * _RANDOM.standard_normal(DIM)


@cache
def states(key: str, layer: int) -> HiddenStates:
    """Returns the states of prompt `s3` (source) or `t3` (target); layers of the source differ in their noise."""
    prompt = int(key[1:])
    random = np.random.default_rng(prompt)
    ids = random.integers(1, 50_000, TOKENS)
    ids[:3] = (7, 8, 9)  # A template that all prompts begin with; its first token is a sink.
    native = random.standard_normal((TOKENS, DIM))
    if key[0] == "s":
        noise = np.random.default_rng([prompt, layer]).standard_normal((TOKENS, DIM))
        native = native @ TO_SOURCE + OFFSET + 0.2 * noise
    native[:3] = np.random.default_rng(ord(key[0])).standard_normal((3, DIM))
    roles = np.full(TOKENS, ROLE_CODES["prompt"], dtype=np.uint8)
    roles[:3] = ROLE_CODES["template"]
    roles[0] = ROLE_CODES["sink"]
    return HiddenStates(
        native.astype(np.float32), "float32", ids.astype(np.int64), roles, np.zeros((1, TOKENS), np.int64)
    )


def inputs(first: int, end: int) -> list[InputPair]:
    """Returns prompts by number."""
    return [InputPair(f"s{number}", f"t{number}") for number in range(first, end)]


def corpus(prompts: int = 60, normalization: str = "rms", layers: tuple[int, ...] = (0,)) -> PairedCorpus:
    """Returns the first prompts as a corpus."""
    return PairedCorpus(inputs(0, prompts), states, layers, 0, normalization, metric=lambda: np.eye(DIM))
