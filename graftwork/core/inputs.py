"""Prompts and reference images, as experiments name them and as scores see them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """A prompt and what it is called in labels and file names."""

    name: str
    text: str


@dataclass(frozen=True)
class Reference:
    """A reference image: `sha256` of the file is its identity, `path` where it lies (relative where possible)."""

    name: str
    path: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True)
class ReferenceSet:
    """Several reference images that make one source; `name` is what labels call them."""

    name: str
    parts: tuple[Reference, ...]
