"""How a text is put before an encoder: chat template, system prompt and think block, an instruction, or as it is.

Used by the encoders and, while the workflow is parsed, to count tokens: nothing here imports torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graftwork.models.tokens import PromptLayout, lay_out_prompt


@dataclass(frozen=True)
class InputOptions:
    """What an encoder is shown besides the text and the image, and how; the defaults change nothing.

    Attributes:
        prompt_format: "chat" for the chat template, "raw" for the text alone, or {"instruct": task} for the text as a
            query with that task before it.
        system_prompt: A system turn before the user's, or None for what the chat template does by itself.
        think_block: "template" for what the chat template does by itself, "empty" for an empty think block, or
            {"text": thought} for one with that thought inside.
        rope_theta: Base of the rotary embedding, or None for the checkpoint's own.
        positions: "checkpoint" for the checkpoint's own positions, or "sequential" for 0, 1, 2, ... also of the tokens
            of an image, which M-RoPE places on a grid.
    """

    prompt_format: str | Mapping[str, str] = "chat"
    system_prompt: str | None = None
    think_block: str | Mapping[str, str] = "template"
    rope_theta: float | None = None
    positions: str = "checkpoint"


NEUTRAL_OPTIONS = InputOptions()


def options_of(origin: Mapping[str, Any]) -> InputOptions:
    """Returns the options of an encoder input, out of what its key is the digest of; what is missing is neutral."""
    return InputOptions(**{name: origin[name] for name in vars(NEUTRAL_OPTIONS) if name in origin})


def lay_out(render: Callable[[str, str | None], str], text: str, options: InputOptions) -> PromptLayout:
    """Returns what goes to the tokenizer for a text, and where its parts are.

    Args:
        render: (text, system prompt) to the chat template's result; a system prompt of None adds no turn.
        text: As written by the user.
        options: `rope_theta` and `positions` have no part in it.

    Raises:
        ValueError: where the chat template does not show a text exactly once and as it is.
    """
    if options.prompt_format == "raw":
        return _plain("", text)
    if isinstance(options.prompt_format, Mapping):
        # As Qwen3-Embedding was trained: the task is to its text what a system turn is to a chat.
        return _plain(f"Instruct: {options.prompt_format['instruct']}\n", text, "Query: ")
    system = options.system_prompt
    layout = lay_out_prompt(lambda prompt: render(prompt, system), text)
    if system is not None:
        lay_out_prompt(lambda turn: render(text, turn), system, "system prompt")
    if options.think_block == "template":
        return layout
    # The block that Qwen3's template writes for `enable_thinking=False`, and for a thought of an earlier turn.
    thought = "" if options.think_block == "empty" else options.think_block["text"]
    start = layout.think[0]
    whole = f"{layout.text[:start]}<think>\n{thought}\n</think>\n\n"
    return PromptLayout(whole, layout.prompt, layout.system, (start, len(whole)))


def _plain(system: str, text: str, before: str = "") -> PromptLayout:
    whole = system + before + text
    end = len(whole)
    return PromptLayout(whole, (end - len(text), end), (0, len(system)), (end, end))
