"""Captions that controls of a scope need: which there are follows from its designs, so that no plan has to say it."""

from collections.abc import Sequence
from dataclasses import dataclass

from graftwork.design.cells import Design
from graftwork.design.settings import Hardware
from graftwork.planning.inputs import path_of
from graftwork.planning.plan import MergedDesigns
from graftwork.planning.shards import ModelToLoad, shard_name
from graftwork.store.captions import read_caption
from graftwork.store.layout import Store
from graftwork.store.records import CaptionParts


@dataclass(frozen=True)
class CaptionToWrite:
    """One question about one image.

    Attributes:
        parts: what the name of the answer is the digest of.
        encoder: what is loaded to answer.
        path: where the image is.
    """

    parts: CaptionParts
    encoder: ModelToLoad
    path: str


def needed_captions(designs: Sequence[Design], hardware: Hardware) -> dict[str, CaptionToWrite]:
    """Returns key -> caption of all controls, those of one encoder and one image side by side."""
    merged = MergedDesigns.of(designs)
    keys = merged.keys(hardware)
    found = {
        parts.key: CaptionToWrite(
            parts, merged.model(parts.encoder), path_of(parts.reference, merged.references)
        )
        for cell in merged.cells.values()
        for about in keys.captions(cell)
        for parts in about
    }
    order = sorted(found, key=lambda key: (found[key].parts.encoder, found[key].parts.reference, key))
    return {key: found[key] for key in order}


def captions_shard(captions: Sequence[str]) -> str | None:
    """Returns the name of the job that writes captions with these keys; None where there are none."""
    return shard_name(list(captions)) if captions else None


def missing_captions(captions: Sequence[str], store: Store) -> list[str]:
    """Returns the keys of captions that the store lacks."""
    return [key for key in captions if read_caption(store, key) is None]
