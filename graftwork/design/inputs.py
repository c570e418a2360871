"""Prompts and reference images: found, checked and identified."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import NoneType
from typing import Any

from graftwork.core.errors import DesignError, shorten, suggest
from graftwork.core.fact_cache import FactCache
from graftwork.core.inputs import Prompt, Reference, ReferenceSet
from graftwork.core.shipped import own_or_shipped
from graftwork.core.yaml_files import read_yaml

REFERENCE_FOLDERS = ("config/references", "resources/references")
REFERENCE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".jfif")
PROMPT_FOLDER = "config/prompts"


def parts_of(reference: Reference | ReferenceSet | None) -> tuple[Reference, ...]:
    """Returns the images of a value of the axis `reference`; none for None."""
    if reference is None:
        return ()
    return reference.parts if isinstance(reference, ReferenceSet) else (reference,)


def read_prompts(value: str | Sequence[Any], root: Path, where: str) -> list[Prompt]:
    """Returns prompts given as the name of a file in config/prompts/ or as a list.

    Raises:
        DesignError: for a file that is missing or of another form, and for an empty or repeated prompt.
    """
    if isinstance(value, str):
        file = root / PROMPT_FOLDER / f"{value}.yaml"
        if not file.is_file():
            known = sorted(path.stem for path in (root / PROMPT_FOLDER).glob("*.yaml"))
            raise DesignError(
                f"{where}: prompts {value!r} is no file in {PROMPT_FOLDER}/; there are: {', '.join(known) or 'none'}"
                f"{suggest(value, known)}"
            )
        where = f"{PROMPT_FOLDER}/{value}.yaml"
        value = read_yaml(file, where)
        if isinstance(value, dict):
            value = [{"name": name, "text": text} for name, text in value.items()]
    if not isinstance(value, list) or not value:
        raise DesignError(
            f"{where}: prompts must be a list with at least one prompt, or a mapping of name to text"
        )
    prompts = [_read_prompt(item, where) for item in value]
    for attribute in ("name", "text"):
        seen = Counter(getattr(prompt, attribute) for prompt in prompts)
        repeated = sorted(item for item, count in seen.items() if count > 1)
        if repeated:
            raise DesignError(f"{where}: prompt {attribute} {shorten(repeated[0])} occurs more than once")
    return prompts


def _read_prompt(item: Any, where: str) -> Prompt:
    item = (
        item if isinstance(item, dict | str) else item.model_dump() if hasattr(item, "model_dump") else item
    )
    if isinstance(item, str):
        name, text = item, item
    elif (
        isinstance(item, dict)
        and set(item) == {"name", "text"}
        and all(isinstance(part, str) for part in item.values())
    ):
        name, text = item["name"], item["text"]
    else:
        quoted = "" if isinstance(item, list | dict | NoneType) else " (quote it where a text is meant)"
        raise DesignError(
            f"{where}: {shorten(item)} is no prompt; allowed: a text, or {{name: ..., text: ...}}, both texts{quoted}"
        )
    for part, shown in ((name, "name of prompt"), (text, "prompt")):
        if not part.strip():
            raise DesignError(
                f"{where}: {shown} {shorten(name)} is empty; write a text, even for a baseline of few words"
            )
    return Prompt(name, text)


def check_control_tokens(
    prompts: Sequence[Prompt], tokens: Sequence[str], where: str, what: str = "prompt"
) -> None:
    """Refuses prompts with control tokens: they end turns or stand for images, unnoticed.

    Raises:
        DesignError: naming prompt and token.
    """
    for prompt in prompts:
        found = [token for token in tokens if token in prompt.text]
        if found:
            raise DesignError(
                f"{where}: {what} {shorten(prompt.name)} contains the control token {found[0]!r}, which the model reads as "
                "structure; remove it, or set allow_control_tokens: true in the experiment"
            )


def find_reference(name: str, root: Path, facts: FactCache, where: str) -> Reference:
    """Finds a reference image by name or path and makes sure that it can be decoded.

    Raises:
        DesignError: for a name that stands for no file or for several, and for a file that is no image.
    """
    path = _locate(name, root, where)
    shown = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
    try:
        found = facts.get(path, _describe_image)
    except ValueError as error:
        raise DesignError(f"{where}: {str(error).replace(str(path), shown)}") from error
    return Reference(_without_ending(path.name), shown, found["sha256"], found["width"], found["height"])


def _locate(name: str, root: Path, where: str) -> Path:
    """Returns the file that a name or path of a reference stands for."""
    folders = {folder: own_or_shipped(root, folder) for folder in REFERENCE_FOLDERS}
    listed = {folder: _images_in(path) for folder, path in folders.items()}
    given = [root / name, *(path / name for path in folders.values())]
    path = next((path for path in given if path.suffix and _is_there(path, Path.is_file)), None)
    if path is not None:
        return path
    for folder, files in listed.items():
        wanted = unicodedata.normalize("NFC", name)
        found = [file for file in files if unicodedata.normalize("NFC", _without_ending(file.name)) == wanted]
        if len(found) > 1:
            raise DesignError(
                f"{where}: reference {shorten(name)} stands for {' and '.join(file.name for file in found)} in {folder}; "
                "write the one that is meant with its ending"
            )
        if found:
            return found[0]
    path = next((path for path in given if _is_there(path, Path.exists)), None)
    if path is not None:
        return path  # A folder, a pipe, or a file without an ending: what reads it says what it is.
    known = sorted({_without_ending(file.name) for files in listed.values() for file in files})
    raise DesignError(
        f"{where}: reference {shorten(name)} is neither a file nor a name in {' or '.join(REFERENCE_FOLDERS)}; "
        f"there are: {', '.join(known) or 'none'}{suggest(name, known)}"
    )


def _is_there(path: Path, is_so: Callable[[Path], bool]) -> bool:
    try:
        return is_so(path)
    except (OSError, ValueError):  # A name that no file can have: too long, or with characters that none has.
        return False


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in REFERENCE_ENDINGS)


def _without_ending(name: str) -> str:
    """Returns the name of an image without its ending; what follows another point in it is no ending."""
    stem, point, ending = name.rpartition(".")
    return stem if stem and f"{point}{ending}".lower() in REFERENCE_ENDINGS else name


def distinct_names(references: Iterable[Reference]) -> dict[str, str]:
    """Returns path -> what labels call a reference, so that different files have different names.

    A name that several files have is preceded by as much of their folders as tells them apart; where only the endings differ,
    they are kept.
    """
    names = {reference.path: reference.name for reference in references}
    by_name: dict[str, list[str]] = {}
    for path, name in names.items():
        by_name.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(path)
    for paths in by_name.values():
        if len(paths) > 1:
            names |= _told_apart(paths)
    return names


def _told_apart(paths: Sequence[str]) -> dict[str, str]:
    longest = max(len(PurePosixPath(path).parts) for path in paths)
    for shorten_to in (_without_ending, str):
        for parts in range(2, longest + 1):
            names = {path: shorten_to("/".join(PurePosixPath(path).parts[-parts:])) for path in paths}
            if len(set(names.values())) == len(names):
                return names
    return {path: path for path in paths}


def renamed(
    reference: Reference | ReferenceSet | None, names: Mapping[str, str]
) -> Reference | ReferenceSet | None:
    """Returns a value of the axis `reference` under its name in labels.

    Args:
        reference: Value of the axis.
        names: Path -> name, from `distinct_names`.
    """
    if isinstance(reference, ReferenceSet):
        parts = tuple(replace(part, name=names[part.path]) for part in reference.parts)
        return ReferenceSet(" + ".join(part.name for part in parts), parts)
    return reference and replace(reference, name=names[reference.path])


def reference_notes(references: Mapping[str, str], root: Path, facts: FactCache) -> list[str]:
    """Returns what of references could not be read as it was meant, one line each.

    Args:
        references: SHA-256 -> path, of files that were found.
        root: Folder that paths are relative to.
        facts: cache of facts about them.
    """
    found = ((path, (facts.known(root / path) or {}).get("warning")) for path in references.values())
    return [f"{path}: {warning}" for path, warning in found if warning]


def _describe_image(path: Path) -> dict[str, Any]:
    from graftwork.models.images import load_reference_image, profile_warning

    image = load_reference_image(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "sha256": digest,
        "width": image.width,
        "height": image.height,
        "warning": profile_warning(path),
    }
