"""Answers of encoders about images: one JSON file each, which holds what its name is the digest of."""

from graftwork.core.records import read_record_or_none, write_record
from graftwork.store.layout import Store
from graftwork.store.records import Caption, CaptionParts


def read_caption(store: Store, key: str) -> str | None:
    """Returns an answer, or None where there is none, or a file that is not what its name says."""
    found = read_record_or_none(Caption, store.caption(key))
    return found.text if found is not None and found.parts.key == key else None


def write_caption_file(store: Store, parts: CaptionParts, text: str) -> None:
    """Stores an answer under its key."""
    write_record(store.caption(parts.key), Caption(parts, text))
