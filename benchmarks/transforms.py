"""How much longer than a copy each transform takes: 1041 x 2560 values in float32, on one thread.

    python -m benchmarks.transforms [stage ...]

A ratio is the median time of a transform over the median time of reading and writing the array once, measured in turns,
in time of the processor, so that what else the machine does counts little, and for both. Arrays are taken in rotation
from more memory than a cache holds. Freed memory is kept by the process: what it costs to get pages from the system
again and again is the allocator's, and can be many times what is measured here.
"""

import contextlib
import ctypes
import itertools
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import torch

from graftwork.maps.fitted import FittedMap
from graftwork.models.tokens import ROLE_CODES
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.transforms.context import TEXT_TOKENS, WHOLE_SOURCE, Context
from graftwork.transforms.registry import STAGES, Transform, transforms

TOKENS, CHANNELS = 1041, 2560
# Tokens of a prompt, which length matching goes to.
PROMPT_TOKENS = 64
ARRAYS = 12
ROUNDS = 40
SLOW_SECONDS = 0.5
# Parameters that are not measured at their defaults.
CHOSEN = {
    "token_alphas": [0.0, 0.5, 1.0],
    "token_importance": [0.0, 0.5, 1.0],
    "token_roles": ["image", "prompt"],
    "fix_tokens": "image",
}


def main(stages: list[str]) -> None:
    """Prints a table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    keep_freed_memory()
    sources = [make_states(seed) for seed in range(ARRAYS)]
    statistics = make_statistics(sources[0])
    print(f"{'stage':16} {'transform':20} {'ratio':>7}")
    for stage in stages or STAGES:
        for entry in transforms(stage).values():
            call = make_call(entry, sources, statistics)
            print(f"{stage:16} {entry.name:20} {measure(call, sources):7.2f}", flush=True)


def keep_freed_memory() -> None:
    """Tells glibc to give nothing back to the system; elsewhere does nothing."""
    trim_threshold, mmap_threshold = -1, -3
    with contextlib.suppress(AttributeError, OSError):
        for option in (trim_threshold, mmap_threshold):
            ctypes.CDLL(None).mallopt(option, 2**25)


def make_states(seed: int) -> torch.Tensor:
    """Returns float32 (tokens, channels) whose dimensions have means and spreads of their own."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.randn(CHANNELS, generator=torch.Generator().manual_seed(0)).exp() * 7
    values = torch.randn(TOKENS, CHANNELS, generator=generator) * spread
    return values + torch.randn(CHANNELS, generator=generator) * spread


def make_statistics(states: torch.Tensor) -> ReferenceStatistics:
    """Returns statistics like those of the states, but for 20 dimensions, 12 times as wide."""
    values = states.numpy().astype(np.float64)
    values[:, :20] *= 12.0
    deviation = values - values.mean(axis=0)
    return ReferenceStatistics(
        n=TOKENS,
        mean=values.mean(axis=0),
        std=values.std(axis=0, ddof=1),
        median_token_rms=float(np.median(np.sqrt(np.square(values).mean(axis=1)))),
        covariance=deviation.T @ deviation / (TOKENS - 1),
    )


def make_host(statistics: ReferenceStatistics) -> ReferenceStatistics:
    """Returns statistics without the 20 dimensions that are wide in these."""
    std = statistics.std.copy()
    std[:20] /= 12.0
    return ReferenceStatistics(n=statistics.n, mean=statistics.mean, std=std)


def make_map() -> FittedMap:
    """Returns a map with a full matrix, which is the slowest there is."""
    weight = np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS)).astype(np.float32)
    return FittedMap(
        "ridge",
        "none",
        {"weight": weight, "bias": np.zeros(CHANNELS, dtype=np.float32)},
        token_rms=1.0,
        pairs=TOKENS,
        prompts=1,
    )


def make_call(
    entry: Transform, sources: list[torch.Tensor], statistics: ReferenceStatistics
) -> Callable[[torch.Tensor], object]:
    """Returns a transform as a function of the source, with parameters at their defaults."""
    roles = np.full(TOKENS, ROLE_CODES["image"], dtype=np.uint8)
    if TEXT_TOKENS in entry.needs:
        roles[: TOKENS // 2] = ROLE_CODES["prompt"]
    names = entry.parameters.model_fields
    values = {name: value for name, value in CHOSEN.items() if name in names}
    own = entry.parameters_of({**values, entry.name: "any"} if entry.is_mapping else values)
    # Blends of the whole source give the text something of it; the others are measured on a text as long as the source.
    short = WHOLE_SOURCE in entry.needs or entry.stage == "normalization"
    text_tokens = PROMPT_TOKENS if short else TOKENS
    texts = itertools.cycle([states[:text_tokens] for states in sources[5:] + sources[:5]])
    context = Context(
        text=sources[2][:text_tokens],
        text_roles=roles[:text_tokens],
        text_token_ids=np.arange(text_tokens),
        source_roles=roles,
        source_token_ids=np.arange(TOKENS),
        statistics=statistics,
        donor=statistics,
        host=make_host(statistics),
        neutral=sources[1],
        map=make_map(),
    )
    # Of two sources; without a combination there is one.
    several = entry.combines is not None
    calls: dict[str, Callable[[torch.Tensor], object]] = {
        "token_mode": lambda x: x[torch.from_numpy(entry.function(roles, own))],
        "mapping": lambda x: entry.function(x[None], own, context),
        "length_matching": lambda x: entry.function(x, PROMPT_TOKENS, own),
        "combination": lambda x: entry.function([x, next(texts)] if several else [x], own),
        "blend": lambda x: entry.function(next(texts), x, 0.3, own, context),
    }
    return calls.get(entry.stage, lambda x: entry.function(x, own, context))


def measure(call: Callable[[torch.Tensor], object], sources: list[torch.Tensor]) -> float:
    """Returns the ratio of a call's time to that of a copy, each the median over rounds."""
    calls, copies = [], []
    for one, other in itertools.islice(rotate(sources), ROUNDS):
        calls.append(seconds(call, one))
        copies.append(seconds(torch.clone, other))
        if sum(calls) > SLOW_SECONDS * 4 and len(calls) >= 4:
            break
    # The first ones also pay for memory that is not there yet.
    skipped = min(4, len(calls) // 2)
    return median(calls[skipped:]) / median(copies[skipped:])


def rotate(sources: list[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields pairs of arrays that have not been touched for as long as possible."""
    return ((sources[i % ARRAYS], sources[(i + ARRAYS // 2) % ARRAYS]) for i in itertools.count())


def seconds(call: Callable[[torch.Tensor], object], source: torch.Tensor) -> float:
    """Returns how long the processor works on a call."""
    start = time.thread_time()
    call(source)
    return time.thread_time() - start


if __name__ == "__main__":
    main(sys.argv[1:])
