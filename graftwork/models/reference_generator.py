"""Generators that take reference images beside a caption: batches of one set of references, and the class that runs them."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from graftwork.core.code_digest import outside_digests
from graftwork.models.generator import Batch, Generator, Launched


@dataclass(frozen=True)
class ReferenceBatch(Batch):
    """Images that are made together with the same references.

    Attributes:
        references: RGB images of any size, at least one; all rows are shown all of them.
        reference_scale: Strength of the references; None where the generator has no such setting.
    """

    references: Sequence[Image.Image] = ()
    reference_scale: float | None = None


def with_references(
    batch: Batch, references: Sequence[Image.Image], reference_scale: float | None
) -> ReferenceBatch:
    """Returns a batch whose rows are shown references; see `ReferenceBatch`."""
    return ReferenceBatch(**vars(batch), references=references, reference_scale=reference_scale)


@outside_digests("raises errors, computes nothing")
def check_references(batch: Batch) -> None:
    """Refuses a batch without references.

    Raises:
        ValueError: saying so.
    """
    if not isinstance(batch, ReferenceBatch) or not batch.references:
        raise ValueError("a batch without references was given to a generator that is shown references")


class ReferenceGenerator(Generator):
    """Turns conditioning and reference images into images."""

    @abstractmethod
    def launch(self, batch: Batch) -> Launched:
        """Starts a batch, and does not wait for the device.

        Args:
            batch: A `ReferenceBatch`.

        Raises:
            ValueError: where the batch has what this generator does not take, or no references, before anything is computed.
        """
