"""Images from texts and references with SDXL and IP-Adapter Plus, through the pipeline of diffusers."""

from pathlib import Path
from typing import Any

from diffusers import StableDiffusionXLPipeline

from graftwork.core.code_digest import outside_digests
from graftwork.models.generator import Batch, Launched
from graftwork.models.generators.sdxl import ADAPTER, ADAPTER_WEIGHTS, IMAGE_ENCODER
from graftwork.models.generators.sdxl.generator import SdxlGenerator
from graftwork.models.reference_generator import ReferenceGenerator, check_references


class SdxlIpAdapter(SdxlGenerator, ReferenceGenerator):
    """SDXL without its text encoders, shown references by IP-Adapter Plus."""

    @classmethod
    def complete(cls, pipeline: StableDiffusionXLPipeline, folder: Path) -> None:
        """Loads the adapter and its image encoder."""
        subfolder, weights = ADAPTER_WEIGHTS
        pipeline.load_ip_adapter(
            str(folder / ADAPTER),
            subfolder=subfolder,
            weight_name=weights,
            image_encoder_folder=IMAGE_ENCODER,
            local_files_only=True,
        )

    def launch(self, batch: Batch) -> Launched:
        """Starts a batch, all of whose rows are shown the same references; see `ReferenceGenerator`."""
        self.check(batch)
        self.pipeline.set_ip_adapter_scale(batch.reference_scale)
        return super().launch(batch)

    def arguments(self, batch: Batch) -> dict[str, Any]:
        """Returns the references, for the one adapter that there is."""
        return {"ip_adapter_image": [list(batch.references)]}

    @outside_digests("raises errors, computes nothing")
    def check(self, batch: Batch) -> None:
        """Refuses what the pipeline does not take, and a batch without references or without a scale.

        Raises:
            ValueError: naming the value and what is allowed.
        """
        super().check(batch)
        check_references(batch)
        if batch.reference_scale is None or not 0.0 <= batch.reference_scale <= 1.0:
            raise ValueError(
                f"reference_scale {batch.reference_scale} is not between 0 and 1; set ip_adapter.scales in "
                "config/experiments/*.yaml"
            )
