"""Vectors that are added to hidden states: of a file, or the difference between two sets of prompts.

The values of the cell parameter `vector`. In a resolved cell, names have become content: a file its SHA-256, and prompts the
digest of the corpus that they are.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from typing_extensions import TypeAliasType

from graftwork.core.parameters import Strict, Text, parameter

Prompts = Text | Annotated[list[Text], Field(min_length=1)]


class FileVector(Strict):
    """A vector from a file."""

    file: Text = Field(description="Path of a safetensors file with a tensor (width,).")
    tensor: Text | None = Field(None, description="Name of the tensor; `null` for the only one of the file.")


class ContrastVector(Strict):
    """A vector from two sets of prompts: the mean over the tokens of the one, less that of the other."""

    towards: Prompts = Field(description="Name of a file in config/prompts/, or a list of texts.")
    away_from: Prompts = Field(description="As `towards`.")
    tokens: Literal["prompt", "non_sink", "all"] = Field(
        "prompt", description="Tokens of these texts that the means are over, by class."
    )


def _form(value: Any) -> str | None:
    """Returns which form a value is meant to have, so that an error is about that one alone."""
    if isinstance(value, FileVector | ContrastVector):
        return type(value).__name__
    if isinstance(value, Mapping) and {"file", "towards"} & set(value):
        return "FileVector" if "file" in value else "ContrastVector"
    return None


# A type of its own, with a name, so that it stays whole where a field's annotation is taken apart.
_Choice = Annotated[
    Annotated[FileVector, Tag("FileVector")] | Annotated[ContrastVector, Tag("ContrastVector")],
    Discriminator(
        _form,
        custom_error_type="vector",
        custom_error_message="a mapping with file, or a mapping with towards and away_from",
    ),
]
VectorChoice = TypeAliasType("VectorChoice", _Choice)


def vector_parameter() -> Any:
    """Returns the field `vector` of a transform that needs one."""
    return parameter(
        None,
        neutral=None,
        description="What is added to the text: {file, tensor}, from a file; or {towards, away_from, tokens}, the "
        "difference between the means of two sets of prompts, as the cell's `encoder` has them at `hidden_layer`, without "
        "an encoder the generator's own text encoder at `text_hidden_layer`.",
    )
