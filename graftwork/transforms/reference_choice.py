"""References of masking and normalization: the same prompt's text, a corpus, or a file.

The values of the cell parameter `statistics`. In a resolved cell, names have become content: a corpus its digest, an
encoder its identity, a file its SHA-256.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from typing_extensions import TypeAliasType

from graftwork.core.parameters import Strict, parameter
from graftwork.statistics.token_classes import TOKEN_CLASSES

TokenClass = Literal[tuple(TOKEN_CLASSES)]  # type: ignore[valid-type]


class CorpusStatistics(Strict):
    """Statistics measured on a corpus."""

    corpus: str = Field(description="Name of a file in config/corpora/.")
    encoder: str | None = Field(
        None,
        description="Encoder that reads it, a name in config/models.yaml; `null` for the generator's own text encoder. "
        "The text encoder and the cell's `encoder` are shown the corpus as the cell says, others in their natural format.",
    )
    hidden_layer: int | None = Field(
        None,
        description="Layer of that encoder; `null` for its layer in the cell: `text_hidden_layer` or `hidden_layer`.",
    )
    tokens: TokenClass = Field("non_sink", description="Tokens that are measured, by class.")


class FileStatistics(Strict):
    """Statistics from a file: as llm-dit-experiments publishes them, or as this workflow writes them."""

    npz: str = Field(
        description="Path of an `.npz` file with `per_dim_mean` and `per_dim_std`, or with `n`, `mean` and `std`."
    )
    tokens: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="How many tokens the statistics are of, which files with `per_dim_mean` do not say; `null` for the "
        "others, which do.",
    )


def _form(value: Any) -> str | None:
    """Returns which form a value is meant to have, so that an error is about that one alone."""
    if value == "prompt":
        return "prompt"
    if isinstance(value, CorpusStatistics | FileStatistics):
        return type(value).__name__
    if isinstance(value, Mapping) and ("npz" in value or "corpus" in value):
        return "FileStatistics" if "npz" in value else "CorpusStatistics"
    return None


# A type of its own, with a name, so that it stays whole where a field's annotation is taken apart.
_Choice = Annotated[
    Annotated[Literal["prompt"], Tag("prompt")]
    | Annotated[CorpusStatistics, Tag("CorpusStatistics")]
    | Annotated[FileStatistics, Tag("FileStatistics")],
    Discriminator(
        _form,
        custom_error_type="statistics",
        custom_error_message="prompt, a mapping with corpus, or a mapping with npz",
    ),
]
StatisticsChoice = TypeAliasType("StatisticsChoice", _Choice)


def statistics_parameter() -> Any:
    """Returns the field `statistics` of a transform that needs reference statistics."""
    return parameter(
        "prompt",
        neutral="prompt",
        description="What masking and normalization take as reference: `prompt`, the same prompt's own text embeddings "
        "without attention sinks; {corpus, encoder, hidden_layer, tokens}, measured on a corpus; or {npz, tokens}, "
        "from a file.",
    )
