"""The design of an analysis: its encoders and comparisons, resolved, and the models and corpora that they name."""

from dataclasses import dataclass, field
from functools import cached_property

from graftwork.core.labels import slugify
from graftwork.core.records import record_digest
from graftwork.design.cells import CorpusRecord, ModelRecord
from graftwork.models.prompts import InputOptions


@dataclass(frozen=True)
class AnalysisEntry:
    """An encoder of an analysis, resolved and checked.

    Attributes:
        name: what tables and comparisons call it.
        encoder: identity of the model.
        hidden_layers: layers as people say them.
        options: how it is shown the corpus.
        token_classes: token classes that get a table; those that it cannot have are left out.
    """

    name: str
    encoder: str
    hidden_layers: tuple[int, ...]
    options: InputOptions
    token_classes: tuple[str, ...]


@dataclass(frozen=True)
class ComparedSide:
    """One side of a comparison.

    Attributes:
        entry: name of the encoder.
        hidden_layer: layer as people say it.
        tokens: token class.
    """

    entry: str
    hidden_layer: int
    tokens: str

    @property
    def file_part(self) -> str:
        """Part of a file's name for the encoder, layer and token class."""
        return f"{slugify(self.entry)}_layer{self.hidden_layer}_{self.tokens}"


@dataclass(frozen=True)
class Comparison:
    """Two sides that are compared.

    Attributes:
        name: name of its files.
        a: one side.
        b: the side that it is compared with.
    """

    name: str
    a: ComparedSide
    b: ComparedSide

    @classmethod
    def of(cls, a: ComparedSide, b: ComparedSide) -> "Comparison":
        """Returns a comparison under the name that follows from its sides."""
        return cls(f"{a.file_part}_vs_{b.file_part}", a, b)


@dataclass(frozen=True)
class MassiveActivations:
    """Threshold of massive activations, after Sun et al. (2024).

    Attributes:
        magnitude: they are above this.
        factor: they are at least this many times the median magnitude.
    """

    magnitude: float
    factor: float


@dataclass(frozen=True)
class AnalysisDesign:
    """An analysis, resolved.

    Attributes:
        name: name of its file.
        title: heading.
        question: question that it asks.
        corpus: digest of the corpus.
        corpora: digest -> corpus.
        entries: encoders that read the corpus.
        comparisons: pairs of sides.
        massive: threshold of massive activations.
        models: identity -> model.
        references: SHA-256 -> path.
    """

    name: str
    title: str
    question: str
    corpus: str
    corpora: dict[str, CorpusRecord]
    entries: tuple[AnalysisEntry, ...]
    comparisons: tuple[Comparison, ...]
    massive: MassiveActivations
    models: dict[str, ModelRecord] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Digest of everything in it."""
        return record_digest(self)
