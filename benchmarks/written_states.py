"""What it costs to see that the files of states in the place of an encoder are still those that were planned.

    python -m benchmarks.written_states [--files 2000]

A folder has a small file for each input. Measured are the job that reads and stores all of them, and the question before a run
whether each of them is there, both in two ways: files compared, or the folder listed, once for each input as it was before, and as
it is now. The measure is the processor's time.
"""

import argparse
import contextlib
import io
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file

from graftwork.core.fact_cache import FactCache
from graftwork.core.records import record_digest
from graftwork.jobs.extraction import extract_hidden_states
from graftwork.models.catalog import identity_of
from graftwork.models.encoder import Encoder
from graftwork.models.encoders.safetensors.encoder import WrittenStates
from graftwork.models.families import encoder_family
from graftwork.planning.code import extraction_code
from graftwork.planning.shards import EncoderInputs, ExtractionShard, InputToExtract, ModelToLoad
from graftwork.store.layout import Store
from graftwork.store.records import EncoderInput

FAMILY, LAYER, SHAPE = "safetensors", 3, (4, 8)
HARDWARE = {"device": "cpu", "dtype": "float32", "cpu_threads": 1}


def shard_of(folder: Path, files: int) -> ExtractionShard:
    """Writes files of states, (4, 8) float32 each, and returns the work of a job that reads all of them."""
    folder.mkdir()
    for number in range(files):
        states = {f"layer_{LAYER}": torch.full(SHAPE, float(number))}
        save_file(states, folder / f"{number}.safetensors", {"prompt": f"prompt {number}"})
    entry = {"family": FAMILY, "path": str(folder)}
    identity = identity_of("encoder", "written", entry, folder.resolve(), FactCache(folder / "facts.json"))
    made = [
        EncoderInput(
            **HARDWARE,
            encoder=identity,
            prompt=f"prompt {number}",
            reference=None,
            code=extraction_code(FAMILY),
        )
        for number in range(files)
    ]
    items = tuple(InputToExtract(record_digest(one), (LAYER,), None, one) for one in made)
    return ExtractionShard(HARDWARE, (EncoderInputs(ModelToLoad("written", entry), items),))


def run_job(shard: ExtractionShard) -> None:
    """Runs the job into a store of its own."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        record = extract_hidden_states(shard, Store(Path(folder)), logging.Logger("job"))
    if len(record.made) != len(shard.inputs):
        raise SystemExit(f"inputs failed: {next(iter(record.failures.values()))}")


def ask_each(shard: ExtractionShard, is_listed_once: bool) -> None:
    """Asks for every input whether the folder has it."""
    lacks, folder = encoder_family(FAMILY).lacks, Path(shard.parts[0].encoder.entry["path"])
    listed = lacks(folder)
    for item in shard.inputs:
        problem = (listed if is_listed_once else lacks(folder))(item.input.asked, LAYER)
        if problem is not None:
            raise SystemExit(problem)


def seconds_of(run: Callable[[], None]) -> float:
    """Returns the processor's time of a run."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main(arguments: list[str]) -> None:
    """Prints a line for the job and one for the question before it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=2000)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        shard = shard_of(Path(folder) / "states", given.files)
        # What is imported and read first is no part of the comparison.
        (part,) = shard.parts
        run_job(replace(shard, parts=(replace(part, inputs=part.inputs[:1]),)))
        now = seconds_of(lambda: run_job(shard))
        with patch.object(WrittenStates, "files_of", Encoder.files_of):
            before = seconds_of(lambda: run_job(shard))
        print(
            f"job of {given.files} files: {before:.2f} s before, {now:.2f} s now, ratio {before / now:.2f}",
            flush=True,
        )
        now, before = (seconds_of(lambda once=once: ask_each(shard, once)) for once in (True, False))
        print(
            f"asking for {given.files} files: {before:.2f} s before, {now:.3f} s now, ratio {before / now:.0f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
