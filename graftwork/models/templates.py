"""Chat templates and tokenizers read from their files alone, to count tokens while the workflow is parsed.

Nothing here imports torch or transformers.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from graftwork.models.description import TOKENIZER_FILES, encoder_folders, read_chat_template
from graftwork.models.prompts import NEUTRAL_OPTIONS, InputOptions, lay_out

_PLACEHOLDER = "PROMPTPLACEHOLDER"


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
