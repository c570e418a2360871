"""Role of each token of an encoded sequence: template, sink, marker, image, prompt, think, system or pad."""

from collections.abc import Collection, Sequence

import numpy as np

from graftwork.models.prompts import PromptLayout

# Codes are stored with cached sequences: append, never reorder.
ROLES = ("template", "sink", "vision_marker", "image", "prompt", "think", "system", "pad")
# Pads follow a text that a generator's own text encoder is shown, never a source.
SOURCE_ROLES = ROLES[:-1]
ROLE_CODES = {role: code for code, role in enumerate(ROLES)}


def assign_roles(
    layout: PromptLayout,
    token_ids: Sequence[int] | np.ndarray,
    offsets: Sequence[tuple[int, int]],
    image_ids: Collection[int] = (),
    marker_ids: Collection[int] = (),
) -> np.ndarray:
    """Gives each token its role.

    A token that covers any character of the prompt is `prompt`, also where it was merged with text of the
    template (a leading newline joins the newline before it). Position 0 is `sink`, whatever else it is.

    Args:
        layout: The text that was tokenized, with its parts.
        token_ids: (tokens,).
        offsets: (start, end) in characters of `layout.text` for each token.
        image_ids: Ids of tokens that stand for image features.
        marker_ids: Ids of tokens that enclose them.

    Returns:
        uint8 (tokens,), codes of `ROLES`.

    Raises:
        ValueError: where a text of the user's contains image tokens or markers, or nothing was tokenized.
    """
    written = {"prompt": layout.prompt, "system prompt": layout.system, "think block": layout.think}
    roles = np.full(len(token_ids), ROLE_CODES["template"], dtype=np.uint8)
    if len(roles) == 0:
        raise ValueError("the tokenizer returned no tokens")
    for index, (token, span) in enumerate(zip(np.asarray(token_ids).tolist(), offsets, strict=True)):
        in_prompt = _overlaps(span, layout.prompt)
        if token in image_ids or token in marker_ids:
            for name, part in written.items():
                if _overlaps(span, part):
                    raise ValueError(
                        f"the {name} contains {layout.text[slice(*span)]!r}, which stands for an image; remove it from "
                        "the text in config/experiments or config/prompts"
                    )
            roles[index] = ROLE_CODES["image" if token in image_ids else "vision_marker"]
        elif in_prompt:
            roles[index] = ROLE_CODES["prompt"]
        elif _overlaps(span, layout.think):
            roles[index] = ROLE_CODES["think"]
        elif _overlaps(span, layout.system):
            roles[index] = ROLE_CODES["system"]
    roles[0] = ROLE_CODES["sink"]
    return roles


def mark_prompt(layout: PromptLayout, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """Returns which tokens cover a character of the prompt: bool (tokens,).

    These are the tokens in role `prompt`, and position 0 where the prompt begins there, whose role is `sink`.

    Args:
        layout: The text that was tokenized, with its parts.
        offsets: (start, end) in characters of `layout.text` for each token.
    """
    return np.array([_overlaps(span, layout.prompt) for span in offsets], dtype=bool)


def _overlaps(span: tuple[int, int], part: tuple[int, int]) -> bool:
    return span[0] < part[1] and part[0] < span[1]
