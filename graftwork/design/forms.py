"""Forms that values have in every configuration file."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Text = Annotated[str, Field(pattern=r"\S")]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class GivenText(Strict):
    """A text of the user's own, where the other values are words with a meaning."""

    text: Text


class Instruct(Strict):
    """A task that stands before a prompt."""

    instruct: Text
