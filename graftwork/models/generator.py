"""Common parts of generators: batches of a fixed shape, the class that runs one, and images that are waited for."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from graftwork.core.code_digest import outside_digests

# What a row is conditioned on: a caption, (tokens, ...), or a schedule, one of these for each step that is run.
RowEmbeds = torch.Tensor | Sequence[torch.Tensor]

_IN_EXPERIMENT = "set it in config/experiments/*.yaml: base"


@dataclass(frozen=True)
class Batch:
    """Images that are made together; names are those of diffusers' pipelines.

    Attributes:
        prompt_embeds: One per row: (tokens, channels), ragged, any dtype, any device; or a schedule, one of these for
            each step that is run, where a tensor that occurs more than once is copied to the device once. All must have
            the same padded length, so that a row does not depend on its neighbours.
        seeds: One per row.
        height: Pixels, a multiple of the generator's `size_multiple`.
        width: Likewise.
        num_inference_steps: Steps of the whole schedule.
        guidance_scale: 0.0 for no guidance. Else the transformer runs on twice as many rows.
        negative_prompt_embeds: For guidance only, one per row, (tokens, channels), all of the same padded length.
        cfg_normalization: 0.0 for none; else the most that guidance may leave of the norm without it, as a factor.
        cfg_truncation: Guidance ends where 1 - sigma is above it.
        init_images: One RGB image of any size per row to start from, stretched to height x width. None starts from
            noise.
        first_step: First step that is run, from 0; see `families.first_step`.

    Raises:
        ValueError: where a value is outside what is said above.
    """

    prompt_embeds: Sequence[RowEmbeds]
    seeds: Sequence[int]
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    negative_prompt_embeds: Sequence[torch.Tensor] | None = None
    cfg_normalization: float = 0.0
    cfg_truncation: float = 1.0
    init_images: Sequence[Image.Image] | None = None
    first_step: int = 0

    @outside_digests("raises errors, computes nothing")
    def __post_init__(self) -> None:
        self._check_rows()
        self._check_guidance()
        self._check_steps()

    @property
    def steps(self) -> int:
        """Number of steps that are run."""
        return self.num_inference_steps - self.first_step

    @outside_digests("raises errors, computes nothing")
    def _check_rows(self) -> None:
        rows = len(self.seeds)
        if len(self.prompt_embeds) != rows or not rows:
            raise ValueError(
                f"{len(self.prompt_embeds)} embeddings and {rows} seeds: one of each per image, at least one"
            )
        named = {"negative embeddings": self.negative_prompt_embeds, "init images": self.init_images}
        for name, given in named.items():
            if given is not None and len(given) != rows:
                raise ValueError(f"{len(given)} {name} for {rows} images: one per image, or none at all")

    @outside_digests("raises errors, computes nothing")
    def _check_guidance(self) -> None:
        scale = self.guidance_scale
        if scale < 0:
            raise ValueError(f"guidance_scale {scale} is below 0, which is no guidance; {_IN_EXPERIMENT}")
        if (scale > 0) != (self.negative_prompt_embeds is not None):
            raise ValueError(
                f"guidance_scale {scale} with{'out' if scale else ''} negative embeddings: both or neither are needed; "
                f"{_IN_EXPERIMENT}"
            )

    @outside_digests("raises errors, computes nothing")
    def _check_steps(self) -> None:
        if self.num_inference_steps < 1:
            raise ValueError(f"num_inference_steps {self.num_inference_steps} is below 1; {_IN_EXPERIMENT}")
        if not 0 <= self.first_step < self.num_inference_steps:
            raise ValueError(
                f"first step {self.first_step} of {self.num_inference_steps} leaves nothing to run; set a larger strength "
                "in config/experiments/*.yaml: base"
            )
        if self.first_step and self.init_images is None:
            raise ValueError(
                f"first step {self.first_step} needs init images to start from; {_IN_EXPERIMENT}"
            )
        for row, embeds in enumerate(self.prompt_embeds):
            if not isinstance(embeds, torch.Tensor) and len(embeds) != self.steps:
                raise ValueError(
                    f"the schedule of row {row} has {len(embeds)} entries: one for each of {self.steps} steps is needed"
                )


@dataclass(frozen=True)
class BatchRow:
    """One image that is wanted.

    Attributes:
        seed: Seed of its noise.
        tensors: Its conditioning as the store holds it: `prompt_embeds`, and `prompt_embeds_of_step` and
            `negative_prompt_embeds` where they take part (see `conditioning.build.Conditioning`).
        init_image: RGB image to start from, or None.
    """

    seed: int
    tensors: Mapping[str, torch.Tensor]
    init_image: Image.Image | None = None

    @property
    def prompt_embeds(self) -> RowEmbeds:
        """Its caption, or one for each step that is run."""
        embeds = self.tensors["prompt_embeds"]
        if "prompt_embeds_of_step" not in self.tensors:
            return embeds
        distinct = embeds.unbind(0)
        return [distinct[index] for index in self.tensors["prompt_embeds_of_step"].tolist()]

    def padding(self, padding_row: Callable[[int], torch.Tensor]) -> "BatchRow":
        """Returns a row of the same shape that nobody looks at, which fills a place beside this one.

        It starts from the same image, which is encoded anyway.
        """
        embeds = self.prompt_embeds
        caption = embeds if isinstance(embeds, torch.Tensor) else embeds[0]
        tensors = {"prompt_embeds": padding_row(caption.shape[0])}
        if "negative_prompt_embeds" in self.tensors:
            tensors["negative_prompt_embeds"] = padding_row(self.tensors["negative_prompt_embeds"].shape[0])
        return BatchRow(0, tensors, self.init_image)


# What is the same for all rows of a batch. Only those that take part are in an image's key.
_REQUIRED = ("height", "width", "num_inference_steps", "guidance_scale")
_OPTIONAL = ("cfg_normalization", "cfg_truncation", "first_step")


def assemble_batch(
    rows: Sequence[BatchRow],
    sampling: Mapping[str, Any],
    batch_shape: int,
    padding_row: Callable[[int], torch.Tensor],
) -> Batch:
    """Returns a batch of rows, filled up to its shape.

    Args:
        rows: At least one, at most `batch_shape`.
        sampling: values that are the same for all rows, by the names of `Batch`; other names are left out.
        batch_shape: Rows of the batch.
        padding_row: See `Generator.padding_row`.
    """
    filled = [*rows, *[rows[0].padding(padding_row)] * (batch_shape - len(rows))]
    negative = (
        [row.tensors["negative_prompt_embeds"] for row in filled] if sampling["guidance_scale"] else None
    )
    images = [row.init_image for row in filled if row.init_image is not None]
    return Batch(
        prompt_embeds=[row.prompt_embeds for row in filled],
        seeds=[row.seed for row in filled],
        negative_prompt_embeds=negative,
        init_images=images or None,
        **{name: sampling[name] for name in _REQUIRED},
        **{name: sampling[name] for name in _OPTIONAL if name in sampling},
    )


class Launched:
    """A batch that the device works on.

    Attributes:
        images: uint8 (rows, height, width, 3), in main memory but not filled before `result`.
        finite: bool (rows,), likewise; False where a row's values were not finite and its image means nothing.
    """

    def __init__(self, images: torch.Tensor, finite: torch.Tensor) -> None:
        self.images, self.finite = _to_host(images), _to_host(finite)
        # Blocking: a thread that waits sleeps, and the one that launches keeps its core.
        self._done = torch.cuda.Event(blocking=True) if images.device.type == "cuda" else None
        if self._done is not None:
            self._done.record()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Waits for the device and returns `images` and `finite` as arrays; any thread may call it, more than once."""
        if self._done is not None:
            self._done.synchronize()
        return self.images.numpy(), self.finite.numpy()


class Generator(ABC):
    """Turns conditioning into images."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> Self:
        """Loads what makes images, and no text encoder; see `loading.load_generator`."""

    @abstractmethod
    def launch(self, batch: Batch) -> Launched:
        """Starts a batch, and does not wait for the device.

        Raises:
            ValueError: where the batch has what this generator does not take, before anything is computed.
        """

    @abstractmethod
    def padding_row(self, tokens: int) -> torch.Tensor:
        """Returns a caption that fills an unused row beside captions of `tokens` tokens, of the same padded length."""

    def generate(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Makes one image per row.

        Returns:
            Images, uint8 (rows, height, width, 3); and bool (rows,), False where a row's values were not finite and its
            image means nothing.
        """
        return self.launch(batch).result()

    @abstractmethod
    def warm_up(self, batch: Batch) -> None:
        """Does what the first batch of this shape has to do before it can run, such as compiling, once per shape."""


@outside_digests("raises errors, computes nothing")
def check_size_and_options(batch: Batch, multiple: int, generator: str) -> None:
    """Refuses sizes that are no multiples, and options that not every pipeline has.

    Args:
        batch: Images to be made.
        multiple: Pixels that height and width have to be a multiple of.
        generator: Name for the message.

    Raises:
        ValueError: naming the value, what is allowed, and the key.
    """
    for name, pixels in (("height", batch.height), ("width", batch.width)):
        if pixels < multiple or pixels % multiple:
            raise ValueError(
                f"{name} {pixels} is not a positive multiple of {multiple} pixels; set it in "
                "config/experiments/*.yaml: base"
            )
    if batch.init_images is not None or batch.cfg_normalization != 0.0 or batch.cfg_truncation != 1.0:
        raise ValueError(
            f"{generator} takes no init_image, cfg_normalization or cfg_truncation; leave them out of "
            "config/experiments/*.yaml"
        )


def initial_noise(seeds: Sequence[int], channels: int, height: int, width: int) -> torch.Tensor:
    """Draws the noise that sampling starts from, each row from a CPU generator of its own.

    Args:
        seeds: One per row.
        channels: Channels of the latents.
        height: Height of the latents, not of the image.
        width: Likewise.

    Returns:
        float32 (rows, channels, height, width) on the CPU, equal on every device.
    """
    rows = [
        torch.randn(
            (channels, height, width), generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32
        )
        for seed in seeds
    ]
    return torch.stack(rows)


def convert_rows(
    rows: Sequence[RowEmbeds], convert: Callable[[torch.Tensor], torch.Tensor]
) -> list[RowEmbeds]:
    """Returns the rows with `convert` applied to each tensor, once to one that occurs more than once."""
    converted: dict[int, torch.Tensor] = {}

    def once(embeds: torch.Tensor) -> torch.Tensor:
        if id(embeds) not in converted:
            converted[id(embeds)] = convert(embeds)
        return converted[id(embeds)]

    return [once(row) if isinstance(row, torch.Tensor) else [once(embeds) for embeds in row] for row in rows]


def embeds_at(rows: Sequence[RowEmbeds], step: int) -> list[torch.Tensor]:
    """Returns what each row is conditioned on at a step, counted from 0 over those that are run."""
    return [row if isinstance(row, torch.Tensor) else row[step] for row in rows]


def finite_rows(values: torch.Tensor) -> torch.Tensor:
    """Returns which rows have only finite values, bool (rows,), for values (rows, ...)."""
    return torch.isfinite(values).flatten(1).all(dim=1)


def round_to_uint8(images: torch.Tensor) -> torch.Tensor:
    """Rounds (rows, 3, height, width) in [0, 1] to uint8 (rows, height, width, 3).

    Equal to `VaeImageProcessor.numpy_to_pil` in diffusers.
    """
    pixels = images.permute(0, 2, 3, 1).float().nan_to_num(nan=0.0)
    return (pixels * 255).round().to(torch.uint8).contiguous()


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copies without waiting, which takes memory that the device can read by itself."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True) if values.device.type == "cpu" else values


def _to_host(values: torch.Tensor) -> torch.Tensor:
    if values.device.type != "cuda":
        return values
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return host.copy_(values, non_blocking=True)
