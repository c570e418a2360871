"""What `hardware.extraction.batch_shape` is worth on the CPU: the job of extraction on the miniature, with one thread.

    python -m benchmarks.extraction [--rounds 3] [--prompts 96]

The measure is the processor's time of a whole job, model loaded and states stored, so that other work on the machine counts
little: the best of some rounds, as a ratio to the job that encodes one text at a time.
"""

import argparse
import contextlib
import io
import logging
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
import yaml

from graftwork.core.records import record_digest
from graftwork.jobs.extraction import extract_hidden_states
from graftwork.jobs.planned import Planned
from graftwork.models.hardware import configure_torch
from graftwork.models.loading import load_encoder
from graftwork.planning.shards import ExtractionShard, InputToExtract, ModelToLoad
from graftwork.store.layout import Store
from graftwork.store.records import EncoderInput

ROWS = (1, 4, 16)
LAYER = 5
CORPORA = {"short texts": "config/corpora/scenes.yaml", "long texts": "config/corpora/everyday.yaml"}
ENCODERS = {
    "Qwen3": {"family": "qwen3", "subfolder": "text_encoder", "tokenizer_subfolder": "tokenizer"},
    "Qwen3-VL": {"family": "qwen3_vl"},
}
FOLDERS = {"Qwen3": "z-image", "Qwen3-VL": "qwen3-vl-instruct"}
HARDWARE = {"device": "cpu", "dtype": "float32", "cpu_threads": 1}


def shard_of(name: str, prompts: list[str], rows: int) -> ExtractionShard:
    """Returns the work of a job that encodes prompts with a batch of so many rows."""
    model = ModelToLoad(name, {"path": f"resources/miniature/family/{FOLDERS[name]}", **ENCODERS[name]})
    plain = EncoderInput(
        dtype="float32",
        device="cpu",
        cpu_threads=1,
        encoder=name,
        prompt="",
        reference=None,
        code="",
        batch_shape=rows,
    )
    made = [replace(plain, prompt=prompt) for prompt in prompts]
    items = tuple(InputToExtract(record_digest(one), (LAYER,), None, one) for one in made)
    return ExtractionShard(model, HARDWARE, items)


def seconds_of(shard: ExtractionShard) -> float:
    """Returns the processor's time of the job, into a store of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        # Nothing was planned that could be compared.
        patch.object(Planned, "require", lambda self: None),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        start = time.process_time()
        record = extract_hidden_states(shard, Store(Path(folder)), logging.Logger("job"))
        seconds = time.process_time() - start
    if record.failures:
        raise SystemExit(f"inputs failed: {next(iter(record.failures.values()))}")
    return seconds


def main(arguments: list[str]) -> None:
    """Prints a line for each encoder, corpus and number of rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=96)
    given = parser.parse_args(arguments)
    configure_torch(HARDWARE)
    print(
        f"torch {torch.__version__}, {given.prompts} texts a job, the best of {given.rounds} rounds",
        flush=True,
    )
    for name in ENCODERS:
        for corpus, path in CORPORA.items():
            prompts = yaml.safe_load(Path(path).read_text())["prompts"][: given.prompts]
            shards = {rows: shard_of(name, prompts, rows) for rows in ROWS}
            encoder = load_encoder(name, shards[1].encoder.entry, [LAYER], HARDWARE)
            tokens = sorted(len(encoder.encode(prompt, None, None, [LAYER]).token_ids) for prompt in prompts)
            best = dict.fromkeys(ROWS, float("inf"))
            for _ in range(given.rounds):
                for rows, shard in shards.items():
                    best[rows] = min(best[rows], seconds_of(shard))
            ratios = ", ".join(f"{rows} rows {best[1] / best[rows]:.2f}" for rows in ROWS[1:])
            print(
                f"{name}, {corpus} of {tokens[0]} to {tokens[-1]} tokens: {best[1] / len(prompts) * 1e3:.1f} ms a text alone; {ratios}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
