"""What each token of an encoded sequence is: template, sink, marker, image, prompt, think or system."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

# Codes are stored with cached sequences: append, never reorder.
ROLES = ("template", "sink", "vision_marker", "image", "prompt", "think", "system")
ROLE_CODES = {role: code for code, role in enumerate(ROLES)}

_PLACEHOLDER = "PROMPTPLACEHOLDER"
# Where a turn starts and where thinking starts, as text. What a template contains is found by rendering it.
_TURN_START = "<|im_start|>"
_THINK_START = "<think>"


@dataclass(frozen=True)
class PromptLayout:
    """A rendered chat and where its parts are, as (start, end) in characters.

    Attributes:
        text: What goes to the tokenizer.
        prompt: The user's prompt.
        system: Turns before the user's, empty where there are none; of a prompt with an instruction, the line of the
            instruction.
        think: From the tag that opens thinking to the end, empty where there is none.
    """

    text: str
    prompt: tuple[int, int]
    system: tuple[int, int]
    think: tuple[int, int]


def lay_out_prompt(render: Callable[[str], str], prompt: str, what: str = "prompt") -> PromptLayout:
    """Renders a prompt and finds it in the result.

    The prompt is not searched for (it may be "user", which the template contains): a placeholder is, and the
    rendered prompt is checked against the text around it.

    Args:
        render: Prompt to the whole text given to the tokenizer.
        prompt: Text as written by the user.
        what: It is called in messages.

    Raises:
        ValueError: where the template shows the prompt more than once or not as it is.
    """
    placeholder, bare = _PLACEHOLDER, render("")
    # Other texts than the prompt, such as a system prompt, may contain the placeholder.
    while placeholder in bare:
        placeholder += "X"
    parts = render(placeholder).split(placeholder)
    if len(parts) != 2:
        raise ValueError(
            f"the chat template shows the {what} {len(parts) - 1} times; exactly once is supported"
        )
    before, after = parts
    text = render(prompt)
    if text != before + prompt + after:
        raise ValueError(
            f"the chat template changes the {what} {prompt!r} (it may strip or interpret it); change the {what} "
            "in config/experiments or config/prompts"
        )
    start, end = len(before), len(before) + len(prompt)
    think = after.find(_THINK_START)
    return PromptLayout(
        text=text,
        prompt=(start, end),
        system=(0, max(before.rfind(_TURN_START), 0)),
        think=(end + think, len(text)) if think >= 0 else (len(text), len(text)),
    )


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
        layout: Of the text that was tokenized.
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


def _overlaps(span: tuple[int, int], part: tuple[int, int]) -> bool:
    return span[0] < part[1] and part[0] < span[1]
