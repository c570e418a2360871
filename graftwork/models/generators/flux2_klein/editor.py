"""Images from captions and references with FLUX.2 [klein], which was trained to edit images, through the pipeline of diffusers.

References are encoded by the VAE, and their latents stand beside those of the image, at times of their own. The pipeline
scales down references of more than 1024 x 1024 pixels, and crops sides to multiples of an image token.
"""

from typing import Any

from graftwork.core.code_digest import outside_digests
from graftwork.models.generator import Batch
from graftwork.models.generators.flux2_klein.generator import Flux2KleinGenerator
from graftwork.models.reference_generator import ReferenceGenerator, check_references


class Flux2KleinEditor(Flux2KleinGenerator, ReferenceGenerator):
    """FLUX.2 [klein] without its text encoder, shown references."""

    def arguments(self, batch: Batch, length: int) -> dict[str, Any]:
        """Returns what the pipeline is told about guidance and references."""
        return {**super().arguments(batch, length), "image": list(batch.references)}

    @outside_digests("raises errors, computes nothing")
    def check(self, batch: Batch) -> None:
        """Refuses what the pipeline does not take, a batch without references, and a scale of references.

        Raises:
            ValueError: naming the value and what is allowed.
        """
        super().check(batch)
        check_references(batch)
        if batch.reference_scale is not None:
            raise ValueError(
                f"reference_scale {batch.reference_scale} was given, but references of FLUX.2 [klein] have no scale; "
                "allowed: None"
            )
