"""Generators that are a pipeline of diffusers, called with captions in place of prompts.

The pipeline draws the noise itself, from one generator per row and in the dtype of the captions, so that an image is what
the pipeline makes of the same seed. What differs is the end: latents are decoded here, so that values that are not finite
are seen before they are clamped, and the host waits for the device nowhere before `Launched.result`.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging

from graftwork.core.code_digest import outside_digests
from graftwork.models.families import family_of
from graftwork.models.generator import (
    Batch,
    Generator,
    Launched,
    check_size_and_options,
    convert_rows,
    embeds_at,
    finite_rows,
    round_to_uint8,
    to_device,
)
from graftwork.models.hardware import parse_dtype
from graftwork.models.kept_schedule import KeptSchedule

if TYPE_CHECKING:
    from graftwork.models.families import GeneratorFacts

# Bars that redraw themselves are noise in a log file.
logging.disable_progress_bar()


class PipelineGenerator(Generator):
    """A pipeline of diffusers without its text encoder.

    Attributes:
        pipeline: The pipeline; its text encoder and tokenizer are None.
        facts: Facts of its checkpoint.
        pipeline_class: Class of the pipeline.
    """

    pipeline_class: ClassVar[type[DiffusionPipeline]]

    def __init__(self, pipeline: DiffusionPipeline, facts: Any) -> None:
        """Takes a loaded pipeline, and the `GeneratorFacts` of its checkpoint."""
        self.pipeline, self.facts = pipeline, facts
        pipeline.scheduler = KeptSchedule.from_config(pipeline.scheduler.config)

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> Self:
        """Loads transformer, VAE and scheduler; see `loading.load_generator`."""
        pipeline = cls.pipeline_class.from_pretrained(
            folder,
            text_encoder=None,
            tokenizer=None,
            dtype=parse_dtype(hardware["dtype"]),
            use_safetensors=True,
            local_files_only=True,
        )
        pipeline.set_progress_bar_config(disable=True)
        if hardware["device"] != "cpu" and hardware.get("offload", "none") == "model":
            pipeline.enable_model_cpu_offload(device=hardware["device"])
        else:
            pipeline.to(hardware["device"])
        return cls(pipeline, _facts_of(folder, entry))

    @property
    @abstractmethod
    def caption_shape(self) -> tuple[int, ...]:
        """Shape of one token of a caption."""

    @abstractmethod
    def captions(self, rows: Sequence[torch.Tensor], length: int) -> torch.Tensor:
        """Returns captions of a batch as the pipeline takes them, (rows, length, ...), padded where they are shorter."""

    @abstractmethod
    def arguments(self, batch: Batch, length: int) -> dict[str, Any]:
        """Returns further arguments of the pipeline."""

    @abstractmethod
    def decode(self, latents: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Returns what the VAE makes of the pipeline's latents: (rows, 3, height, width), about -1 to 1."""

    def length_of(self, batch: Batch) -> int:
        """Returns the length that captions of a batch and their negatives are padded to."""
        captions = [*embeds_at(batch.prompt_embeds, 0), *(batch.negative_prompt_embeds or ())]
        return max(len(self.padding_row(len(embeds))) for embeds in captions)

    @torch.no_grad()
    def launch(self, batch: Batch) -> Launched:
        """Starts a batch of images with the pipeline's own loop.

        Raises:
            ValueError: where the batch has what this generator does not take, before anything is computed.
        """
        self.check(batch)
        pipeline, length = self.pipeline, self.length_of(batch)
        rows = convert_rows(batch.prompt_embeds, self._on_device)

        def after_step(_pipeline: Any, step: int, _timestep: Any, _values: dict[str, Any]) -> dict[str, Any]:
            if step + 1 >= batch.steps:
                return {}
            return {"prompt_embeds": self.captions(embeds_at(rows, step + 1), length)}

        latents = pipeline(
            prompt_embeds=self.captions(embeds_at(rows, 0), length),
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in batch.seeds],
            height=batch.height,
            width=batch.width,
            num_inference_steps=batch.num_inference_steps,
            output_type="latent",
            callback_on_step_end=after_step,
            **self.arguments(batch, length),
        ).images
        decoded = self.decode(latents, batch)
        finite = finite_rows(latents) & finite_rows(decoded)
        pixels = round_to_uint8(pipeline.image_processor.postprocess(decoded, output_type="pt"))
        pipeline.maybe_free_model_hooks()
        return Launched(pixels, finite)

    def negative_captions(self, batch: Batch, length: int) -> torch.Tensor | None:
        """Returns the captions that guidance leads away from, or None without guidance."""
        if batch.negative_prompt_embeds is None:
            return None
        return self.captions([self._on_device(embeds) for embeds in batch.negative_prompt_embeds], length)

    def _on_device(self, embeds: torch.Tensor) -> torch.Tensor:
        return to_device(embeds.to(self.pipeline.transformer.dtype), self.pipeline._execution_device)

    @outside_digests("makes nothing that is kept")
    def warm_up(self, batch: Batch) -> None:
        """Does nothing: nothing is compiled."""

    @outside_digests("raises errors, computes nothing")
    def check(self, batch: Batch) -> None:
        """Refuses sizes, captions and options that the pipeline does not take.

        Raises:
            ValueError: naming the value, what is allowed, and the key.
        """
        check_size_and_options(batch, self.facts.size_multiple, type(self).__name__)
        rows = [[row] if isinstance(row, torch.Tensor) else row for row in batch.prompt_embeds]
        self._check_captions("caption", [embeds for row in rows for embeds in row])
        self._check_captions("negative caption", batch.negative_prompt_embeds or ())

    @outside_digests("raises errors, computes nothing")
    def _check_captions(self, what: str, captions: Sequence[torch.Tensor]) -> None:
        shape, limit = self.caption_shape, self.facts.max_caption_tokens
        for number, embeds in enumerate(captions):
            if embeds.shape[1:] != shape:
                raise ValueError(
                    f"{what} {number} has shape {tuple(embeds.shape)}, the transformer takes (tokens, "
                    f"{', '.join(map(str, shape))}); set another encoder in config/experiments/*.yaml"
                )
            if not 1 <= embeds.shape[0] <= limit:
                raise ValueError(
                    f"{what} {number} has {embeds.shape[0]} tokens, this generator takes 1 to {limit}; shorten the "
                    "prompt, use a smaller reference or another length matching in config/experiments/*.yaml"
                )
        lengths = sorted({len(self.padding_row(embeds.shape[0])) for embeds in captions})
        if len(lengths) > 1:
            raise ValueError(
                f"{what}s of padded lengths {lengths} in one batch: one length is allowed, so that a row does not depend on "
                "its neighbours"
            )


@outside_digests("says what is refused")
def _facts_of(folder: Path, entry: Mapping[str, Any]) -> "GeneratorFacts":
    return family_of("generator", entry).read_facts(folder, entry)
