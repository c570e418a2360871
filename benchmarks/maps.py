"""Time and memory of fitting maps at the shape of the published models, on random states.

    python -m benchmarks.maps [--dim 2560] [--prompts 200] [--tokens 40] [--ridges 1e-2 1e-3] [method ...]

Hidden states are written to a temporary store in bfloat16, as extraction writes them, and read by the job of the rule
`fit_maps`. States of the target are Gaussian, those of the source a linear map of them and noise. Each method runs in a
process of its own, so that its peak of memory is its own; its time has reading, sums and folds in it.
"""

import argparse
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from graftwork.core.records import record_digest
from graftwork.jobs.maps import fit_maps
from graftwork.maps.registry import method, methods
from graftwork.models.tokens import ROLE_CODES
from graftwork.planning.code import map_code
from graftwork.planning.shards import MapShard, MapToFit
from graftwork.store.hidden_states import add_layers
from graftwork.store.layout import Store
from graftwork.store.maps import read_map
from graftwork.store.records import EncoderInput, MapParts

LAYER = 35
NOISE = 0.3


def main(arguments: list[str] | None = None) -> None:
    """Prints a table, one line per method."""
    parser = argparse.ArgumentParser(description="Measure the fitting of maps on random states.")
    parser.add_argument("methods", nargs="*", default=["affine_per_dim", "ridge", "low_rank", "procrustes"])
    for name, value in (("dim", 2560), ("prompts", 200), ("tokens", 40)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--ridges", type=float, nargs="*", default=[1e-2, 1e-3])
    parser.add_argument("--store", type=Path, help="of a process of its own")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.methods) - set(methods()))
    if unknown:
        parser.error(f"there is no method {unknown[0]!r}; allowed: {', '.join(methods())}")
    if options.store is not None:
        print(measure(Store(options.store), options.methods[0], options))
        return
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_states(Store(Path(folder)), options)
        print(f"{options.prompts} prompts of {options.tokens} tokens, {options.dim} dimensions", end="; ")
        print(f"written in {time.perf_counter() - start:.0f} s", flush=True)
        print(f"{'method':16} {'seconds':>8} {'of the CPU':>11} {'peak MB':>8} {'pairs':>6} {'file MB':>8}")
        for name in options.methods:
            shape = [f"--{key}={getattr(options, key)}" for key in ("dim", "prompts", "tokens")]
            ridges = ["--ridges", *map(str, options.ridges), f"--store={folder}"]
            subprocess.run([sys.executable, "-m", "benchmarks.maps", name, *shape, *ridges], check=True)


def write_states(store: Store, options: argparse.Namespace) -> None:
    """Writes the inputs of both encoders."""
    random = np.random.default_rng(0)
    dim, tokens = options.dim, options.tokens
    to_source = np.eye(dim, dtype=np.float32) + random.standard_normal((dim, dim), np.float32) / dim**0.5
    roles = np.full(tokens, ROLE_CODES["prompt"], dtype=np.uint8)
    roles[0] = ROLE_CODES["sink"]
    for number in range(options.prompts):
        native = random.standard_normal((tokens, dim), np.float32)
        source = native @ to_source + NOISE * random.standard_normal((tokens, dim), np.float32)
        ids = random.integers(0, 150_000, tokens)
        for side, values in (("source", source), ("target", native)):
            made = EncoderInput(
                dtype="bfloat16",
                device="cpu",
                cpu_threads=2,
                encoder=side,
                prompt=f"prompt {number}",
                reference=None,
                code="random",
            )
            sequence = {"token_ids": ids, "roles": roles, "positions": np.arange(tokens)[None]}
            bits = (values.view(np.uint32) >> 16).astype(np.uint16)
            add_layers(store.hidden_states(key_of(side, number)), {LAYER: bits}, "bfloat16", sequence, made)


def key_of(side: str, number: int) -> str:
    """Returns the name of an input."""
    return f"{side}{number:06d}"


def measure(store: Store, name: str, options: argparse.Namespace) -> str:
    """Fits one map by the job of the rule; returns a line of the table."""
    fields = method(name).parameters.model_fields
    parameters = {"ridges": options.ridges} if "ridges" in fields else {}
    if "rank" in fields:
        parameters["rank"] = min(64, options.dim)
    numbers = range(options.prompts)
    parts = MapParts(
        source=tuple(key_of("source", number) for number in numbers),
        layers=(LAYER,),
        target=tuple(key_of("target", number) for number in numbers),
        target_layer=LAYER,
        normalization="rms",
        method=name,
        parameters=parameters,
        code=map_code(name),
    )
    key = record_digest(parts)
    shard = MapShard((MapToFit(key, parts, "random", "source", "target"),), {})
    start, used = time.perf_counter(), time.process_time()
    record = fit_maps(shard, store, logging.getLogger("benchmark"), {})
    wall, cpu = time.perf_counter() - start, time.process_time() - used
    if record.failures:
        raise RuntimeError(record.failures[key])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    size = store.map(key).stat().st_size / 1e6
    pairs = read_map(store.map(key)).pairs
    return f"{name:16} {wall:8.1f} {cpu:11.1f} {peak:8.0f} {pairs:6} {size:8.1f}"


if __name__ == "__main__":
    main()
