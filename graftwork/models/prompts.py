"""How a text is put before an encoder: chat template, system prompt and think block, an instruction, or as it is.

Used by the encoders, with the renderer of their library, and while the workflow is parsed, to count tokens with the files
of chat template and tokenizer alone: nothing here imports torch or transformers.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from graftwork.models.description import TOKENIZER_FILES, encoder_folders, read_chat_template

_PLACEHOLDER = "PROMPTPLACEHOLDER"
# Where a turn starts and where thinking starts, as text. What a template contains is found by rendering it.
_TURN_START = "<|im_start|>"
_THINK_START = "<think>"


@dataclass(frozen=True)
class InputOptions:
    """Options of how an encoder is shown text and image; the defaults change nothing.

    Attributes:
        prompt_format: "chat" for the chat template, "raw" for the text alone, or {"instruct": task} for the text as a
            query with that task before it.
        system_prompt: A system turn before the user's, or None for what the chat template does by itself.
        think_block: "template" for what the chat template does by itself, "empty" for an empty think block, or
            {"text": thought} for one with that thought inside.
        rope_theta: Base of the rotary embedding, or None for the checkpoint's own.
        positions: "checkpoint" for the checkpoint's own positions, or "sequential" for 0, 1, 2, ... also of the tokens
            of an image, which M-RoPE places on a grid.
        padded_to: Tokens that a text is padded to on the right, with the states of pads; 0 for no padding.
    """

    prompt_format: str | Mapping[str, str] = "chat"
    system_prompt: str | None = None
    think_block: str | Mapping[str, str] = "template"
    rope_theta: float | None = None
    positions: str = "checkpoint"
    padded_to: int = 0


NEUTRAL_OPTIONS = InputOptions()
# The options that are parameters of cells; padding follows from the generator.
CELL_OPTIONS = ("prompt_format", "system_prompt", "think_block", "rope_theta", "positions")


@dataclass(frozen=True)
class AskedInput:
    """One input that an encoder is asked for.

    Attributes:
        prompt: Text as written by the user; None where no text takes part.
        reference: SHA-256 of the image, or the name of one that shows nothing; None without one.
        source: "hidden_states", or "vision_tower" for the output of a vision tower.
        options: How the encoder is shown text and image.
    """

    prompt: str | None
    reference: str | None
    source: str = "hidden_states"
    options: InputOptions = NEUTRAL_OPTIONS


@dataclass(frozen=True)
class PromptLayout:
    """A rendered chat and where its parts are, as (start, end) in characters.

    Attributes:
        text: text for the tokenizer.
        prompt: The user's prompt.
        system: Turns before the user's, empty where there are none; of a prompt with an instruction, the line of the
            instruction.
        think: From the tag that opens thinking to the end, empty where there is none.
    """

    text: str
    prompt: tuple[int, int]
    system: tuple[int, int]
    think: tuple[int, int]


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


# Counting tokens without the model libraries


def has_tokenizer(entry: Mapping[str, Any], folder: Path) -> bool:
    """Whether an encoder has the files of a tokenizer. States that were written by another program may come without."""
    return (encoder_folders(entry, folder)[1] / "tokenizer.json").is_file()


def count_prompt_tokens(
    entry: Mapping[str, Any], folder: Path, prompts: Sequence[str], options: InputOptions = NEUTRAL_OPTIONS
) -> list[int]:
    """Counts the tokens of prompts as the encoder is shown them, images not counted.

    The whole text is tokenized, with what is around the prompt, so this is the length of what the encoder returns for
    the prompt alone. An image adds its own tokens and two markers.

    Args:
        entry: The encoder in config/models.yaml.
        folder: Its folder.
        prompts: Texts as written by the user.
        options: How they are put before the encoder.

    Raises:
        ValueError: where there is no chat template, or it cannot do what the options ask for.
    """
    before, after = text_around_prompt(entry, folder, options)
    tokenizer = _tokenizer(encoder_folders(entry, folder)[1])
    texts = [before + prompt + after for prompt in prompts]
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]


def prompt_token_ids(entry: Mapping[str, Any], folder: Path, prompts: Sequence[str]) -> list[list[int]]:
    """Returns the token ids of prompts alone, without anything around them.

    Args:
        entry: The encoder in config/models.yaml.
        folder: Its folder.
        prompts: Texts as written by the user.
    """
    tokenizer = _tokenizer(encoder_folders(entry, folder)[1])
    return [encoding.ids for encoding in tokenizer.encode_batch(list(prompts), add_special_tokens=False)]


def token_texts(entry: Mapping[str, Any], folder: Path, token_ids: Sequence[int]) -> list[str]:
    """Returns what each token stands for; its id where that is not known.

    Args:
        entry: The encoder in config/models.yaml.
        folder: Its folder.
        token_ids: entries of its vocabulary; below 0 for tokens that are not known.
    """
    if not has_tokenizer(entry, folder):
        return [str(token) for token in token_ids]
    tokenizer = _tokenizer(encoder_folders(entry, folder)[1])
    return [
        tokenizer.decode([token], skip_special_tokens=False) if token >= 0 else str(token)
        for token in token_ids
    ]


def text_around_prompt(entry: Mapping[str, Any], folder: Path, options: InputOptions) -> tuple[str, str]:
    """Returns what an encoder is shown before and after a prompt.

    Raises:
        ValueError: where there is no chat template, or it cannot do what the options ask for.
    """

    def render(prompt: str, system: str | None) -> str:
        return chat_renderer(encoder_folders(entry, folder)[1])(prompt, system)

    layout = lay_out(render, _PLACEHOLDER, options)
    return layout.text[: layout.prompt[0]], layout.text[layout.prompt[1] :]


def chat_renderer(tokenizer_folder: Path) -> Callable[[str, str | None], str]:
    """Returns (prompt, system prompt) -> what the chat template makes of them.

    Raises:
        ValueError: where there is no template.
    """
    return _chat_renderer(tokenizer_folder, _stamp(tokenizer_folder))


@lru_cache(maxsize=16)
def _chat_renderer(tokenizer_folder: Path, stamp: tuple[int, ...]) -> Callable[[str, str | None], str]:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    source = read_chat_template(tokenizer_folder)
    if source is None:
        raise ValueError(
            f"{tokenizer_folder} has no chat template (chat_template.jinja or tokenizer_config.json); set "
            "prompt_format or text_prompt_format: raw for this encoder"
        )
    # The settings of `render_jinja_template` in transformers.utils.chat_template_utils.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals["raise_exception"] = _raise_template_error
    template = environment.from_string(source)

    def render(prompt: str, system: str | None) -> str:
        turns = [] if system is None else [{"role": "system", "content": system}]
        return template.render(
            messages=[*turns, {"role": "user", "content": prompt}],
            add_generation_prompt=True,
            enable_thinking=True,
        )

    return render


def _raise_template_error(message: str) -> None:
    raise ValueError(f"the chat template refused the prompt: {message}")


def _tokenizer(tokenizer_folder: Path) -> Any:
    return _cached_tokenizer(tokenizer_folder, _stamp(tokenizer_folder))


@lru_cache(maxsize=16)
def _cached_tokenizer(tokenizer_folder: Path, stamp: tuple[int, ...]) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))


def _stamp(folder: Path) -> tuple[int, ...]:
    return tuple((folder / name).stat().st_mtime_ns for name in TOKENIZER_FILES if (folder / name).is_file())
