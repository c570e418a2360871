"""The part of benchmarks/gpu.py that is about hidden states."""

import contextlib
import hashlib
import io
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from benchmarks.flops import text_flops, vision_flops
from graftwork.core.records import record_digest
from graftwork.jobs.extraction import extract_hidden_states
from graftwork.jobs.planned import Planned
from graftwork.models import loading
from graftwork.models.hardware import parse_dtype
from graftwork.models.images import open_reference
from graftwork.planning.shards import EncoderInputs, ExtractionShard, InputToExtract, ModelToLoad
from graftwork.store.layout import Store
from graftwork.store.records import EncoderInput
from lab.random_models import (
    keep_layers,
    random_text_encoder,
    random_vision_language_encoder,
)

# What Z-Image was trained on: the output of the last block but one.
LAYER_FROM_END = 1


def measure_extraction(options: Any, table: Callable, peak_memory: Callable, synchronize: Callable) -> None:
    """Prints the table of hidden states.

    Args:
        options: As in benchmarks/gpu.py, as are the functions.
        table: Prints.
        peak_memory: Yields what reads the peak.
        synchronize: Waits for the device.
    """

    def timed(function: Callable[[], Any], number: int) -> tuple[float, float]:
        synchronize(options.device)
        with peak_memory(options.device) as peak:
            start = time.perf_counter()
            function()
            synchronize(options.device)
            return number / (time.perf_counter() - start), peak()

    def rows() -> Iterator[Sequence[Any]]:
        yield from _compare(options, timed, "text", random_text_encoder, None)
        yield from _compare(
            options, timed, "image and text", random_vision_language_encoder, 64 if options.small else 1024
        )

    table(("input", "tokens", "how", "inputs/s", "TFLOP/s", "to plain", "peak GB"), rows())


def _compare(
    options: Any, timed: Callable, name: str, load: Callable, size: int | None
) -> Iterator[Sequence[Any]]:
    encoder = load(options.device, parse_dtype(options.dtype), small=options.small)
    prompts = [_prompt(encoder, options.tokens, index) for index in range(max(4, options.cells))]
    model = encoder.language_model
    layer = model.config.num_hidden_layers - LAYER_FROM_END
    with tempfile.TemporaryDirectory() as folder:
        image = _image(Path(folder), size)
        tokens = len(encoder.encode(prompts[0], _open(image), None, [layer]).token_ids)
        tflop = text_flops(tokens, small=options.small) / 1e12
        if size is not None:
            tflop += vision_flops((size // 16) ** 2, small=options.small) / 1e12
        plain, most = timed(lambda: [_plain(encoder, prompt, image) for prompt in prompts], len(prompts))
        yield [name, tokens, "plain calls", plain, plain * tflop, 1.0, most]
        keep_layers(encoder, layer)
        rate, most = timed(lambda: _job(options, encoder, prompts, image, layer, folder), len(prompts))
        # In operations of a plain call: what the workflow leaves out counts as speed.
        yield [name, tokens, "workflow's job", rate, rate * tflop, rate / plain, most]


def _prompt(encoder: Any, tokens: int, index: int) -> str:
    """Returns a text of at least `tokens` tokens, another one for each index."""
    words = f"a painting of {index} cats"
    while len(encoder.tokenizer(encoder.render(words))["input_ids"]) < tokens:
        words += " and a dog"
    return words


def _image(folder: Path, size: int | None) -> Path | None:
    if size is None:
        return None
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    return folder / "image.png"


def _open(image: Path | None) -> Image.Image | None:
    return None if image is None else open_reference(image)


@torch.no_grad()
def _plain(encoder: Any, prompt: str, image: Path | None) -> torch.Tensor:
    """One call of the model, as without a workflow: all layers, the image's features computed for each prompt."""
    picture, device = _open(image), encoder.model.device
    if picture is None:
        ids = encoder.tokenizer(encoder.render(prompt), return_tensors="pt")["input_ids"].to(device)
        output = encoder.model(input_ids=ids, use_cache=False, output_hidden_states=True)
        return output.hidden_states[-2].cpu()
    inputs = encoder.image_processor(images=[picture], return_tensors="pt")
    grid = inputs["image_grid_thw"]
    merge = encoder.model.config.vision_config.spatial_merge_size
    text = encoder.render(prompt, int(grid.prod()) // merge**2)
    ids = encoder.tokenizer(text, return_tensors="pt")["input_ids"]
    types = (ids == encoder.model.config.image_token_id).int()
    output = encoder.model(
        input_ids=ids.to(device),
        mm_token_type_ids=types.to(device),
        pixel_values=inputs["pixel_values"].to(device),
        image_grid_thw=grid.to(device),
        use_cache=False,
        output_hidden_states=True,
    )
    return output.hidden_states[-2].cpu()


def _job(options: Any, encoder: Any, prompts: list[str], image: Path | None, layer: int, folder: str) -> None:
    """Extraction as the workflow runs it, into a store."""
    hardware = {name: value for name, value in options.hardware().items() if name != "batch_shape"}
    inputs = []
    for prompt in prompts:
        made = EncoderInput(
            dtype=hardware["dtype"],
            device=hardware["device"],
            cpu_threads=None,
            encoder="random",
            prompt=prompt,
            reference=image and hashlib.sha256(image.read_bytes()).hexdigest(),
            code="",
        )
        inputs.append(InputToExtract(record_digest(made), (layer,), image and str(image), made))
    shard = ExtractionShard(
        hardware, (EncoderInputs(ModelToLoad("random", {"family": "qwen3"}), tuple(inputs)),)
    )
    with (
        patch.object(loading, "load_encoder", lambda *_: encoder),
        # The model is no checkpoint whose content could be compared.
        patch.object(Planned, "require", lambda *_: None),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        record = extract_hidden_states(shard, Store(Path(folder)), logging.Logger("job"))
    if record.failures:
        raise SystemExit(f"inputs failed: {next(iter(record.failures.values()))}")
