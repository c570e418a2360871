"""Prompts and reference images: found, checked and identified."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from graftwork.core.errors import DesignError, suggest
from graftwork.core.fact_cache import FactCache
from graftwork.core.inputs import Prompt, Reference, ReferenceSet

REFERENCE_FOLDERS = ("config/references", "resources/references")
REFERENCE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")
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
        seen = [getattr(prompt, attribute) for prompt in prompts]
        repeated = sorted({item for item in seen if seen.count(item) > 1})
        if repeated:
            raise DesignError(f"{where}: prompt {attribute} {repeated[0]!r} occurs more than once")
    return prompts


def _read_prompt(item: Any, where: str) -> Prompt:
    item = (
        item if isinstance(item, dict | str) else item.model_dump() if hasattr(item, "model_dump") else item
    )
    if isinstance(item, str):
        name, text = item, item
    elif isinstance(item, dict) and set(item) == {"name", "text"} and isinstance(item["text"], str):
        name, text = str(item["name"]), item["text"]
    else:
        raise DesignError(f"{where}: {item!r} is no prompt; allowed: a text, or {{name: ..., text: ...}}")
    if not text.strip():
        raise DesignError(
            f"{where}: prompt {name!r} is empty; write a text, even for a baseline of few words"
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
                f"{where}: {what} {prompt.name!r} contains the control token {found[0]!r}, which the model reads as "
                "structure; remove it, or set allow_control_tokens: true in the experiment"
            )


def find_reference(name: str, root: Path, facts: FactCache, where: str) -> Reference:
    """Finds a reference image by name or path and makes sure that it can be decoded.

    Raises:
        DesignError: for a file that is missing, empty, truncated or not an image.
    """
    candidates = [root / name] if Path(name).suffix.lower() in REFERENCE_ENDINGS else []
    for folder in REFERENCE_FOLDERS:
        candidates += [root / folder / f"{name}{ending}" for ending in ("", *REFERENCE_ENDINGS)]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        known = sorted(
            file.stem
            for folder in REFERENCE_FOLDERS
            if (root / folder).is_dir()
            for file in (root / folder).iterdir()
            if file.suffix.lower() in REFERENCE_ENDINGS
        )
        raise DesignError(
            f"{where}: reference {name!r} is neither a file nor a name in {' or '.join(REFERENCE_FOLDERS)}; "
            f"there are: {', '.join(known) or 'none'}{suggest(name, known)}"
        )
    shown = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
    try:
        found = facts.get(path, _describe_image)
    except ValueError as error:
        raise DesignError(f"{where}: {str(error).replace(str(path), shown)}") from error
    return Reference(Path(name).stem, shown, found["sha256"], found["width"], found["height"])


def _describe_image(path: Path) -> dict[str, Any]:
    from graftwork.models.images import load_reference_image

    image = load_reference_image(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"sha256": digest, "width": image.width, "height": image.height}


def read_yaml(file: Path, shown: str) -> Any:
    """Reads YAML; repeated keys are an error, for YAML silently keeps the last.

    Args:
        file: Path of the file to read.
        shown: Its path as the user knows it, for messages.

    Raises:
        DesignError: for a file that is missing or not YAML, with line and column.
    """
    try:
        loader = _UniqueKeyLoader(file.read_text(encoding="utf-8"))
        loader.name = shown
        return loader.get_single_data()
    except FileNotFoundError as error:
        raise DesignError(f"{shown} does not exist") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DesignError(f"{shown} is not valid YAML: {error}") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses repeated keys, and reads 1e6 as a number, as YAML 1.2 does: PyYAML takes it for a text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} occurs twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
