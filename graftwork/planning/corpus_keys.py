"""Keys of statistics: which inputs of a corpus they are of, in order, at which layer, by which code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graftwork.core.identity import digest
from graftwork.planning.code import statistics_code

if TYPE_CHECKING:
    from graftwork.planning.keys import Needed


@dataclass(frozen=True)
class NeededStatistics:
    """Statistics of one layer of an encoder over a corpus.

    Attributes:
        key: Their name in the store.
        inputs: What they are of, in the order of the corpus.
        covariance_of: The token class whose covariance they have, and which they are of alone; None for all classes
            and no covariance.
        origin: Of what, for people.
    """

    key: str
    inputs: "Sequence[Needed]"
    covariance_of: str | None
    origin: dict[str, Any]

    def item(self) -> dict[str, Any]:
        """Returns what a job has to know to measure them."""
        return {
            "key": self.key,
            "inputs": [need.key for need in self.inputs],
            "layer": self.inputs[0].layer,
            "covariance_of": self.covariance_of,
            "origin": self.origin,
        }


def corpus_inputs(content: Mapping[str, Any], accepts_images: bool) -> list[tuple[str, str | None]]:
    """Returns (text, SHA-256 of the reference or None) of every input, in the order of the corpus.

    Args:
        content: {prompts, references}.
        accepts_images: Whether the encoder is shown the references.
    """
    references: Sequence[str | None] = (content["references"] if accepts_images else []) or [None]
    return [(prompt, reference) for prompt in content["prompts"] for reference in references]


def name_statistics(
    inputs: "Sequence[Needed]", covariance_of: str | None, about: Mapping[str, Any]
) -> NeededStatistics:
    """Returns statistics under their key: what they are of, where the covariance is wanted, and the code.

    Args:
        inputs: In the order of the corpus, all of one encoder and layer.
        covariance_of: See `NeededStatistics`.
        about: Corpus, encoder and options: no parts of the key, for the inputs' keys stand for them.
    """
    parts = {
        "inputs": [need.key for need in inputs],
        "layer": inputs[0].layer,
        "code": statistics_code(),
    }
    if covariance_of is not None:
        parts["covariance_of"] = covariance_of
    return NeededStatistics(digest(parts), inputs, covariance_of, {**about, **parts})
