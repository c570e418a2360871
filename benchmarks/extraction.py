"""What `hardware.extraction.batch_shape` is worth on the CPU: the job of extraction on the miniature, with one thread.

    python -m benchmarks.extraction [--rounds 3] [--prompts 96]

The measure is the processor's time of a whole job, model loaded and states stored, so that other work on the machine counts
little: the best of some rounds, as a ratio to the job that encodes one prompt at a time.
"""

import argparse
import contextlib
import hashlib
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
from graftwork.models.images import open_reference
from graftwork.models.loading import load_encoder
from graftwork.planning.shards import EncoderInputs, ExtractionShard, InputToExtract, ModelToLoad
from graftwork.store.layout import Store
from graftwork.store.records import EncoderInput

ROWS = (1, 4, 16)
LAYER = 5
SHORT, LONG = "config/corpora/scenes.yaml", "config/corpora/everyday.yaml"
# 128 x 128 pixels.
PICTURE = "resources/references/scene_green_square.png"
# Encoder, what it is given, the prompts, and the image that all of them have.
CASES = (
    ("Qwen3", "short texts", SHORT, None),
    ("Qwen3", "long texts", LONG, None),
    ("Qwen3-VL", "short texts", SHORT, None),
    ("Qwen3-VL", "long texts", LONG, None),
    ("Qwen3-VL", "short prompts with a picture", SHORT, PICTURE),
)
ENCODERS = {
    "Qwen3": {"family": "qwen3", "subfolder": "text_encoder", "tokenizer_subfolder": "tokenizer"},
    "Qwen3-VL": {"family": "qwen3_vl"},
}
FOLDERS = {"Qwen3": "z-image", "Qwen3-VL": "qwen3-vl-instruct"}
HARDWARE = {"device": "cpu", "dtype": "float32", "cpu_threads": 1}


def shard_of(name: str, prompts: list[str], picture: str | None, rows: int) -> ExtractionShard:
    """Returns the work of a job that encodes prompts with a batch of so many rows."""
    reference = picture and hashlib.sha256(Path(picture).read_bytes()).hexdigest()
    model = ModelToLoad(name, {"path": f"resources/miniature/family/{FOLDERS[name]}", **ENCODERS[name]})
    plain = EncoderInput(
        dtype="float32",
        device="cpu",
        cpu_threads=1,
        encoder=name,
        prompt="",
        reference=reference,
        code="",
        batch_shape=rows,
    )
    made = [replace(plain, prompt=prompt) for prompt in prompts]
    items = tuple(InputToExtract(record_digest(one), (LAYER,), picture, one) for one in made)
    return ExtractionShard(HARDWARE, (EncoderInputs(model, items),))


def seconds_of(shard: ExtractionShard) -> float:
    """Returns the processor's time of the job, into a store of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        # Nothing was planned that could be compared.
        patch.object(Planned, "require", lambda *_: None),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        start = time.process_time()
        record = extract_hidden_states(shard, Store(Path(folder)), logging.Logger("job"))
        seconds = time.process_time() - start
    if record.failures:
        raise SystemExit(f"inputs failed: {next(iter(record.failures.values()))}")
    return seconds


def tokens_of(shard: ExtractionShard) -> list[int]:
    """Returns how many tokens the inputs of a job have, sorted."""
    model = shard.parts[0].encoder
    encoder = load_encoder(model.name, model.entry, [LAYER], HARDWARE)
    found = []
    for item in shard.inputs:
        image = None if item.path is None else open_reference(item.path)
        found.append(len(encoder.encode(item.input.prompt, image, item.input.reference, [LAYER]).token_ids))
    return sorted(found)


def main(arguments: list[str]) -> None:
    """Prints a line for each encoder and what it is given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=96)
    given = parser.parse_args(arguments)
    configure_torch(HARDWARE)
    print(
        f"torch {torch.__version__}, {given.prompts} prompts a job, the best of {given.rounds} rounds",
        flush=True,
    )
    for name, what, corpus, picture in CASES:
        prompts = yaml.safe_load(Path(corpus).read_text())["prompts"][: given.prompts]
        shards = {rows: shard_of(name, prompts, picture, rows) for rows in ROWS}
        tokens = tokens_of(shards[1])
        best = dict.fromkeys(ROWS, float("inf"))
        for _ in range(given.rounds):
            for rows, shard in shards.items():
                best[rows] = min(best[rows], seconds_of(shard))
        ratios = ", ".join(f"{rows} rows {best[1] / best[rows]:.2f}" for rows in ROWS[1:])
        print(
            f"{name}, {what}, {tokens[0]} to {tokens[-1]} tokens: {best[1] / len(prompts) * 1e3:.1f} ms a prompt alone; {ratios}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
