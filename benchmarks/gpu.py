"""Images and hidden states per second at the published sizes, with random weights: python benchmarks/gpu.py

Everything is compared within one run on one device. For images, a plain loop, `ZImagePipeline` called once per cell and
nothing else, stands against the job that the workflow runs, reading conditioning and writing PNG files included; for
hidden states, plain calls of the models stand against the job of extraction. Weights are drawn on the device, so no
checkpoint is needed; what an image costs does not depend on what it shows, but noise makes larger PNG files than
pictures do.

`--small` runs the same code on tiny models and the CPU, which shows that it works and nothing about speed. RESULTS.md
has the command lines of a whole study.
"""

import argparse
import contextlib
import io
import logging
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.flops import image_flops
from benchmarks.gpu_extraction import measure_extraction
from benchmarks.gpu_idle import Timeline, busy_seconds, watch
from graftwork.jobs.generation import generate_images
from graftwork.jobs.planned import Planned
from graftwork.models import loading
from graftwork.models.acceleration import find_conflict
from graftwork.models.generator import Batch
from graftwork.models.generators.z_image.generator import ZImageGenerator
from graftwork.models.hardware import configure_torch, parse_dtype
from graftwork.planning.shards import ImageItem, ImageShard, ModelToLoad
from graftwork.store.layout import Store
from graftwork.store.records import ImageParts
from lab.random_models import random_pipeline
from lab.real_shapes import component_bytes

VARIANTS: dict[str, dict[str, Any]] = {
    "eager": {},
    "cudnn": {"attention_backend": "_native_cudnn"},
    "flash": {"attention_backend": "_native_flash"},
    "flash-package": {"attention_backend": "flash"},
    "flash-3-package": {"attention_backend": "_flash_3"},
    "fused": {"fuse_blocks": True},
    "compiled": {"compile": "default"},
    "compiled+fused": {"compile": "default", "fuse_blocks": True},
    "graphs": {"compile": "reduce-overhead", "fuse_blocks": True},
    "vae-compiled": {"compile_vae": True},
    "vae-channels-last": {"vae_channels_last": True},
    "vae-sliced": {"vae_slicing": True},
    "offloaded": {"offload": "model"},
    "fast": {
        "attention_backend": "_native_cudnn",
        "compile": "default",
        "compile_vae": True,
        "fuse_blocks": True,
    },
}
STEPS = 8


@dataclass
class Options:
    """What is measured, and on what."""

    small: bool
    device: str
    dtype: str
    sizes: list[int]
    batch_shapes: list[int]
    tokens: int
    steps: int
    cells: int
    idle_images: int
    variants: list[str]
    peak_tflops: float
    threads: int

    def hardware(self, batch_shape: int = 1, **settings: Any) -> dict[str, Any]:
        return {
            "device": self.device,
            "dtype": self.dtype,
            "cpu_threads": self.threads,
            "batch_shape": batch_shape,
            "offload": "none",
            **settings,
        }


def synchronize(device: str) -> None:
    """Waits for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


@contextlib.contextmanager
def peak_memory(device: str) -> Iterator[Callable[[], float]]:
    """Yields a function that returns the most GB that tensors took since the block began; nan on the CPU."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    yield lambda: torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else float("nan")


def table(heading: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    """Prints a table in Markdown, line by line as the rows are measured."""
    print(f"\n| {' | '.join(heading)} |\n|{'---|' * len(heading)}", flush=True)
    for row in rows:
        cells = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row]
        print(f"| {' | '.join(cells)} |", flush=True)


def captions(options: Options, number: int) -> list[torch.Tensor]:
    """Returns embeddings of the length of real captions, (tokens, channels)."""
    channels = 64 if options.small else 2560
    generator = torch.Generator().manual_seed(0)
    dtype = parse_dtype(options.dtype)
    return [torch.randn(options.tokens, channels, generator=generator).to(dtype) for _ in range(number)]


def plain_rate(options: Options, size: int) -> tuple[float, float]:
    """Returns images per second and peak GB of `ZImagePipeline` called once per cell; no file is written."""
    pipeline = random_pipeline(options.device, parse_dtype(options.dtype), small=options.small)

    def make(caption: torch.Tensor, seed: int) -> None:
        pipeline(
            prompt_embeds=[caption.to(options.device)],
            height=size,
            width=size,
            num_inference_steps=options.steps,
            guidance_scale=0.0,
            generator=torch.Generator(options.device).manual_seed(seed),
        )

    given = captions(options, options.cells)
    make(given[0], 0)
    synchronize(options.device)
    with peak_memory(options.device) as peak:
        start = time.perf_counter()
        for seed, caption in enumerate(given):
            make(caption, seed)
        synchronize(options.device)
        return len(given) / (time.perf_counter() - start), peak()


def build_generator(options: Options, hardware: dict[str, Any]) -> ZImageGenerator:
    """Returns the workflow's generator with random weights."""
    pipeline = random_pipeline(options.device, parse_dtype(options.dtype), small=options.small)
    if hardware["offload"] == "model":
        pipeline.enable_model_cpu_offload(device=hardware["device"])
    return ZImageGenerator(pipeline, hardware)


def make_shard(
    options: Options, store: Store, size: int, hardware: dict[str, Any], seed: int, images: int
) -> ImageShard:
    """Stores conditioning for whole batches, two at least, and returns a shard as planning freezes it."""
    from safetensors.torch import save_file

    from graftwork.conditioning.build import conditioning_hash

    rows = hardware["batch_shape"]
    number = max(2, -(-images // rows)) * rows
    items = []
    for index, caption in enumerate(captions(options, number)):
        tensors = {"prompt_embeds": caption}
        hash_ = conditioning_hash(tensors)
        path = store.conditioning(hash_)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)
        parts = ImageParts(
            dtype=hardware["dtype"],
            device=hardware["device"],
            cpu_threads=None,
            conditioning=hash_,
            generator="random",
            seed=seed + index,
            height=size,
            width=size,
            num_inference_steps=options.steps,
            guidance_scale=0.0,
            batch_shape=rows,
            attention_backend=hardware.get("attention_backend", "native"),
            compile=hardware.get("compile", False),
            code="",
        )
        items.append(ImageItem(parts.key, parts, options.tokens))
    return ImageShard(ModelToLoad("random", {"family": "z_image"}), hardware, tuple(items), {}, ())


def job_rate(
    options: Options, generator: ZImageGenerator, hardware: dict[str, Any], size: int, images: int
) -> tuple[float, float, Timeline, str]:
    """Returns images per second and peak GB of the workflow's job, its timeline, and what its log says of waiting."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(loading, "load_generator", lambda *_: generator),
        # The model is no checkpoint whose content could be compared.
        patch.object(Planned, "require", lambda *_: None),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        store = Store(Path(folder))
        rate, said = 0.0, []
        log = logging.Logger("job")
        log.addFilter(lambda record: said.append(record.getMessage()) or True)
        # The first shard is what is thrown away: graphs are compiled and memory is taken.
        for seed, number in ((0, 1), (10**6, images)):
            shard = make_shard(options, store, size, hardware, seed, number)
            synchronize(options.device)
            with peak_memory(options.device) as peak:
                with watch(generator, options.device) as timeline:
                    record = generate_images(shard, store, log)
                rate = len(shard.images) / timeline.wall
                most = peak()
            if record.failures:
                raise RuntimeError(f"images failed: {next(iter(record.failures.values()))}")
        return rate, most, timeline, said[-1]


def variant_columns(
    options: Options,
    size: int,
    shape: int,
    variant: str,
    columns: Callable[[float, str, float], Sequence[Any]],
) -> list[Any]:
    """Returns the columns of a variant and batch shape, or what is wrong with it and empty columns.

    Args:
        options: options of the benchmark.
        size: Pixels of a side.
        shape: Images in a batch.
        variant: One of `VARIANTS`.
        columns: Images per second, idle share and peak GB to columns.
    """
    hardware = options.hardware(shape, **VARIANTS[variant])
    if conflict := find_conflict(hardware):
        return [f"refused: {conflict}", *[""] * 5]
    try:
        generator = build_generator(options, hardware)
        rate, most, timeline, _ = job_rate(options, generator, hardware, size, options.cells)
        return list(columns(rate, f"{100 * timeline.idle:.1f} %", most))
    # What does not fit or is not installed is a result, and the other rows are wanted.
    except (RuntimeError, torch.cuda.OutOfMemoryError) as error:
        return [str(error).split("\n")[0], *[""] * 5]
    finally:
        generator = None
        torch._dynamo.reset()
        if options.device == "cuda":
            torch.cuda.empty_cache()


def measure_generation(options: Options) -> None:
    """Prints the table of images."""

    def rows() -> Iterator[Sequence[Any]]:
        for size in options.sizes:
            flops = image_flops(size, size, options.tokens, small=options.small)
            tflop = (options.steps * flops["forward"] + flops["decode"]) / 1e12
            plain, most = plain_rate(options, size)

            def columns(
                rate: float, idle: str, most: float, tflop: float = tflop, plain: float = plain
            ) -> tuple[Any, ...]:
                share = f"{100 * rate * tflop / options.peak_tflops:.1f} %"
                return rate, rate * tflop, share, rate / plain, idle, most

            yield [size, 1, "plain diffusers loop", *columns(plain, "", most)]
            for variant in options.variants:
                for shape in options.batch_shapes:
                    yield [size, shape, variant, *variant_columns(options, size, shape, variant, columns)]

    heading = ("pixels", "rows", "variant", "images/s", "TFLOP/s", "of peak", "to plain", "idle", "peak GB")
    table(heading, rows())


def idle_in_a_long_run(options: Options) -> None:
    """Prints how long the device has nothing to do while a whole job runs, for the last variant and batch shape."""
    shape, variant = options.batch_shapes[-1], options.variants[-1]
    hardware = options.hardware(shape, **VARIANTS[variant])
    if find_conflict(hardware):
        return
    said = []

    def rows() -> Iterator[Sequence[Any]]:
        generator = build_generator(options, hardware)
        for size in options.sizes:
            rate, _, timeline, line = job_rate(options, generator, hardware, size, options.idle_images)
            said.append(f"{size} pixels: {line}")
            seconds = (timeline.wall, timeline.before, timeline.between, timeline.after)
            yield [
                size,
                shape,
                variant,
                round(rate * timeline.wall),
                rate,
                *seconds,
                f"{100 * timeline.idle:.2f} %",
            ]

    heading = (
        "pixels",
        "rows",
        "variant",
        "images",
        "images/s",
        "seconds",
        "before",
        "between",
        "after",
        "idle",
    )
    table(heading, rows())
    print(
        "Seconds without a batch on the device: before the first, between batches, and after the last, when the"
    )
    print(
        "images that are left are encoded and written. Loading the model and compiling are not part of the run."
    )
    print("\n".join(said))


def where_time_goes(options: Options) -> None:
    """Prints parts of one batch and the profiler's table, for the last variant, size and batch shape."""
    size, shape, variant = options.sizes[-1], options.batch_shapes[-1], options.variants[-1]
    hardware = options.hardware(shape, **VARIANTS[variant])
    if find_conflict(hardware):
        return
    generator = build_generator(options, hardware)
    given = captions(options, shape)
    batch = Batch(
        given,
        list(range(shape)),
        height=size,
        width=size,
        num_inference_steps=options.steps,
        guidance_scale=0.0,
    )

    def run() -> None:
        generator.generate(batch)

    generator.warm_up(batch)
    run()
    start = time.perf_counter()
    run()
    whole = time.perf_counter() - start
    seconds = {"transformer": 0.0, "vae": 0.0}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **values: Any) -> Any:
            synchronize(options.device)
            begun = time.perf_counter()
            result = function(*arguments, **values)
            synchronize(options.device)
            seconds[name] += time.perf_counter() - begun
            return result

        return call

    # Around what is not compiled itself: the compiler would take a hook inside into its graph.
    transformer, vae = generator.pipeline.transformer, generator.pipeline.vae
    with (
        patch.object(transformer, "forward", timed("transformer", transformer.forward)),
        patch.object(vae, "decode", timed("vae", vae.decode)),
    ):
        run()
    print(f"\nOne batch of {shape} at {size} pixels, {variant}: {whole:.3f} s from call to result")
    print(f"  transformer  {seconds['transformer']:.3f} s in {options.steps} steps")
    print(f"  VAE decoder  {seconds['vae']:.3f} s")
    print(f"  the rest     {max(0.0, whole - sum(seconds.values())):.3f} s")
    activities = [torch.profiler.ProfilerActivity.CPU]
    if options.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        run()
    if options.device == "cuda":
        print(
            f"  kernels ran  {busy_seconds(profile):.3f} s: the device was idle for the rest, inside of a batch"
        )
    key = "self_device_time_total" if options.device == "cuda" else "self_cpu_time_total"
    print(f"\n{profile.key_averages().table(sort_by=key, row_limit=15, max_name_column_width=60)}")


def time_to_load(options: Options) -> None:
    """Writes a checkpoint with random weights, and prints how long the workflow takes to load it."""
    with tempfile.TemporaryDirectory() as name:
        pipeline = random_pipeline(options.device, parse_dtype(options.dtype), small=options.small)
        stored = sum(component_bytes(pipeline).values())
        pipeline.save_pretrained(name)
        pipeline = None
        start = time.perf_counter()
        ZImageGenerator.load(Path(name), {}, options.hardware())
        synchronize(options.device)
        seconds = time.perf_counter() - start
    print(
        f"\nLoading {stored / 1e9:.3g} GB of transformer and VAE took {seconds:.2f} s, from the page cache."
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description="Measure generation and extraction on this machine's GPU.")
    parser.add_argument("--small", action="store_true", help="tiny models on the CPU: shows that it works")
    parser.add_argument("--sizes", type=int, nargs="+", help="pixels (default 512 1024)")
    parser.add_argument("--batch-shapes", type=int, nargs="+", help="rows of a batch (default 1 4 8)")
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS, "all"], help="default eager fast")
    parser.add_argument("--tokens", type=int, help="of a caption (default 128)")
    parser.add_argument("--cells", type=int, help="images per measurement, two batches at least (default 8)")
    parser.add_argument(
        "--idle-images", type=int, help="of the run that idle time is measured in (default 200)"
    )
    parser.add_argument("--peak-tflops", type=float, default=790.0, help="dense bf16 (default 790, an H200)")
    parser.add_argument("--only", choices=["generation", "idle", "extraction", "profile", "load"], nargs="+")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints what was asked for."""
    given = parse(arguments)
    small = given.small
    variants = given.variants or (["eager", "fused", "vae-sliced"] if small else ["eager", "fast"])
    options = Options(
        small=small,
        device="cpu" if small else "cuda",
        dtype="float32" if small else "bfloat16",
        sizes=given.sizes or ([64] if small else [512, 1024]),
        batch_shapes=given.batch_shapes or ([1, 2] if small else [1, 4, 8]),
        tokens=given.tokens or (20 if small else 128),
        steps=2 if small else STEPS,
        cells=given.cells or (2 if small else 8),
        idle_images=given.idle_images or (6 if small else 200),
        variants=list(VARIANTS) if "all" in variants else variants,
        peak_tflops=given.peak_tflops,
        threads=1 if small else 2,
    )
    configure_torch(options.hardware())
    device = platform.machine() if small else torch.cuda.get_device_name()
    print(
        f"{device}, torch {torch.__version__}, {options.dtype}, {options.steps} steps, {options.tokens} tokens"
    )
    if small:
        print("Tiny models: these numbers say that the benchmark works, and nothing about any real model.")
    wanted = given.only or ["load", "generation", "idle", "profile", "extraction"]
    if "load" in wanted:
        time_to_load(options)
    if "generation" in wanted:
        measure_generation(options)
    if "idle" in wanted:
        idle_in_a_long_run(options)
    if "profile" in wanted:
        where_time_goes(options)
    if "extraction" in wanted:
        measure_extraction(options, table, peak_memory, synchronize)


if __name__ == "__main__":
    main()
