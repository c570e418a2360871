"""What scorers have in common: the class that runs one, what it is asked, and cosines of embeddings.

Every image and every text goes through the model alone. A batch of another shape changes low bits, and what is kept of a value
must not depend on what was measured beside it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import torch
    from PIL import Image

# Quantities: P(yes) of a question about a text; cosines with a text, and with another image; the cosine with a text times
# the scale that the model was trained with.
YES, TEXT_COSINE, IMAGE_COSINE, TEXT_LOGIT = "yes", "text_cosine", "image_cosine", "text_logit"
# Digits that are kept of a value.
DIGITS = 6


@dataclass(frozen=True)
class Looked:
    """An image that is looked at.

    Attributes:
        key: stands for its content; with the same key, its embedding is used again.
        image: RGB.
    """

    key: str
    image: "Image.Image"


@dataclass(frozen=True)
class Measured:
    """What a scorer says.

    Attributes:
        value: the number.
        is_truncated: whether the text was longer than the scorer reads.
    """

    value: float
    is_truncated: bool = False


class Scorer(ABC):
    """Compares an image with a text or with another image."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> Self:
        """Loads a scorer; see `loading.load_scorer`."""

    @abstractmethod
    def measure(
        self, quantity: str, image: Looked, text: str | None = None, other: Looked | None = None
    ) -> Measured:
        """Returns one number.

        Args:
            quantity: one of those of its family.
            image: the image.
            text: what it is compared with; None where that is an image.
            other: the image it is compared with; None where that is a text.

        Raises:
            ValueError: where the image or the text cannot be taken.
            FloatingPointError: where the value is not finite.
        """


class EmbeddingScorer(Scorer):
    """Compares unit vectors; they are kept, for an image is compared with several things."""

    def __init__(self) -> None:
        self._images: dict[str, torch.Tensor] = {}
        self._texts: dict[str, tuple[torch.Tensor, bool]] = {}

    @abstractmethod
    def embed_image(self, image: "Image.Image") -> "torch.Tensor":
        """Returns the vector of an image, (width,), not normalized."""

    def embed_text(self, text: str) -> "tuple[torch.Tensor, bool]":
        """Returns the vector of a text, (width,), not normalized, and whether it was cut."""
        raise ValueError(f"{type(self).__name__} reads no texts")

    def scale(self) -> float:
        """Returns what the cosine with a text is multiplied with in training."""
        raise ValueError(f"{type(self).__name__} has no scale")

    def measure(
        self, quantity: str, image: Looked, text: str | None = None, other: Looked | None = None
    ) -> Measured:
        """Returns the cosine with a text or an image, or the former times the scale; see `Scorer`."""
        import torch

        with torch.no_grad():
            own = self._of_image(image)
            if quantity == IMAGE_COSINE:
                if other is None:
                    raise ValueError("a cosine of images needs another image")
                return Measured(_finite(own @ self._of_image(other)))
            if text is None:
                raise ValueError("a cosine with a text needs a text")
            if text not in self._texts:
                vector, is_cut = self.embed_text(text)
                self._texts[text] = (_unit(vector), is_cut)
            vector, is_cut = self._texts[text]
            factor = self.scale() if quantity == TEXT_LOGIT else 1.0
            return Measured(_finite(factor * (own @ vector)), is_cut)

    def _of_image(self, image: Looked) -> "torch.Tensor":
        if image.key not in self._images:
            self._images[image.key] = _unit(self.embed_image(image.image))
        return self._images[image.key]


def _unit(vector: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.nn.functional.normalize(vector.float(), dim=0).cpu()


def _finite(value: Any) -> float:
    number = float(value)
    if number != number or abs(number) == float("inf"):
        raise FloatingPointError(
            f"the value is {number}; set config/config.yaml: hardware.scoring.dtype to float32"
        )
    return round(number, DIGITS)


def finite_value(value: Any) -> float:
    """Returns a value with the digits that are kept.

    Raises:
        FloatingPointError: where it is not finite.
    """
    return _finite(value)
