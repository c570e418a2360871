"""Common parts of encoders of the transformers library: loading the layers that are needed, and taking hidden states out."""

import copy
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedConfig, PreTrainedModel, Qwen2Tokenizer
from transformers.utils import logging

from graftwork.models.description import read_chat_template
from graftwork.models.encoder import EncodedSequence, Encoder, PromptToEncode
from graftwork.models.prompts import NEUTRAL_OPTIONS, InputOptions, PromptLayout
from graftwork.models.tokens import ROLE_CODES

# Bars that redraw themselves are noise in a log file.
logging.disable_progress_bar()

# Weights that a truncated base model does not use: the language model's head and the layers above.
UNUSED_WEIGHTS = [r"^lm_head\.", r"(^|\.)layers\.\d+\."]


# Rows of a batch are padded to the next multiple of this. Attention is causal: no token attends to the pads on its right.
_LENGTH_STEP = 16


@dataclass(frozen=True)
class ModelInput:
    """Arguments of a model for one input.

    Attributes:
        input_ids: int64 (1, tokens), on the CPU.
        roles: uint8 (tokens,), codes of `tokens.ROLES`.
        in_prompt: bool (tokens,), which tokens are of the prompt.
        positions: int64 (axes, tokens), on the CPU.
        arguments: Further arguments of the model, on its device.
    """

    input_ids: torch.Tensor
    roles: np.ndarray
    in_prompt: np.ndarray
    positions: np.ndarray
    arguments: dict[str, Any] = field(default_factory=dict)


class TransformersEncoder(Encoder):
    """Encodes inputs with a model of the transformers library.

    Attributes:
        model: Blocks up to the deepest layer; without the final norm unless the last entry is asked for.
        tokenizer: With its chat template.
        deepest: The deepest entry of `hidden_states` that it can give.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any, deepest: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.deepest = deepest

    @property
    def language_model(self) -> PreTrainedModel:
        """The part of the model that has the rotary embedding."""
        return self.model

    @abstractmethod
    def prepare(
        self, prompt: str, image: Image.Image | None, image_key: str | None, options: InputOptions
    ) -> ModelInput:
        """Returns what the model is called with; see `Encoder.encode` for the arguments and what is raised."""

    @torch.no_grad()
    def encode(
        self,
        prompt: str,
        image: Image.Image | None,
        image_key: str | None,
        layers: Sequence[int],
        options: InputOptions = NEUTRAL_OPTIONS,
    ) -> EncodedSequence:
        """Encodes one input; see `Encoder`."""
        wanted = check_layers(layers, self.deepest)
        given = self.prepare(prompt, image, image_key, options)
        if options.padded_to:
            given = padded(given, options.padded_to, self.tokenizer.pad_token_id, self.model.device)
        with rotary_base(self.language_model, options.rope_theta):
            output = self.model(
                input_ids=given.input_ids.to(self.model.device),
                use_cache=False,
                output_hidden_states=wanted,
                **given.arguments,
            )
        return _encoded(given, take_states(output.hidden_states, wanted))

    @torch.no_grad()
    def encode_batches(
        self, prompts: Sequence[PromptToEncode], image: Image.Image | None, image_key: str | None, rows: int
    ) -> Iterator[tuple[int, EncodedSequence | Exception]]:
        """Encodes prompts in batches; see `Encoder`."""
        waiting: dict[tuple[int, float | None, tuple[int, ...]], list[tuple[int, ModelInput]]]
        waiting = defaultdict(list)
        for number, asked in enumerate(prompts):
            try:
                layers = tuple(check_layers(asked.layers, self.deepest))
                given = self.prepare(asked.prompt, image, image_key, asked.options)
            except Exception as error:  # one prompt's failure is that prompt's result
                yield number, error
                continue
            length = -(-given.input_ids.shape[1] // _LENGTH_STEP) * _LENGTH_STEP
            alike = length, asked.options.rope_theta, layers
            waiting[alike].append((number, given))
            if len(waiting[alike]) == rows:
                yield from self._encode_batch(waiting.pop(alike), rows, *alike)
        for alike, members in waiting.items():
            yield from self._encode_batch(members, rows, *alike)

    def _encode_batch(
        self,
        members: Sequence[tuple[int, ModelInput]],
        rows: int,
        length: int,
        rope_theta: float | None,
        layers: Sequence[int],
    ) -> Iterator[tuple[int, EncodedSequence | Exception]]:
        filled = [given for _, given in members]
        filled += filled[-1:] * (rows - len(filled))
        try:
            # Pads are the last token once more, which stands for no image.
            ids = [pad_right(given.input_ids, length, int(given.input_ids[0, -1])) for given in filled]
            with rotary_base(self.language_model, rope_theta):
                states = self.model(
                    input_ids=torch.cat(ids).to(self.model.device),
                    use_cache=False,
                    output_hidden_states=list(layers),
                    **self.batch_arguments(filled, length),
                ).hidden_states
        except Exception as error:  # such as memory that does not suffice: the failure of these prompts
            yield from ((number, error) for number, _ in members)
            return
        for row, (number, given) in enumerate(members):
            try:
                found = take_states(states, layers, row, given.input_ids.shape[1])
            except FloatingPointError as error:
                yield number, error
                continue
            yield number, _encoded(given, found)

    def batch_arguments(self, rows: Sequence[ModelInput], length: int) -> dict[str, Any]:
        """Returns further arguments of the model for a batch.

        Args:
            rows: Its rows, all with the same image or all without one.
            length: Tokens of a row with its pads.
        """
        return {}


def _encoded(given: ModelInput, states: dict[int, torch.Tensor]) -> EncodedSequence:
    return EncodedSequence(
        token_ids=given.input_ids[0].numpy(),
        roles=given.roles,
        positions=given.positions,
        hidden_states=states,
        in_prompt=given.in_prompt,
    )


def padded(given: ModelInput, length: int, pad_token: int | None, device: torch.device) -> ModelInput:
    """Returns a text with pads on its right, which attend to the text, and which nothing attends to.

    As tokenizers of transformers pad with `padding="max_length"`; positions go on over the pads.

    Args:
        given: A text alone.
        length: Tokens of the result.
        pad_token: Id of the token.
        device: Device of the model.

    Raises:
        ValueError: where the text has more tokens, the tokenizer no pad token, or the model more than one position per
            token.
    """
    tokens = given.input_ids.shape[1]
    if tokens > length:
        raise ValueError(
            f"a text of {tokens} tokens with its template does not fit into {length}, to which the generator's texts are "
            "padded; shorten the prompt"
        )
    if pad_token is None or given.arguments or given.positions.shape[0] != 1:
        raise ValueError(
            "this encoder gives no states of pads; choose another text_encoder in config/models.yaml"
        )
    pads = length - tokens
    roles = np.concatenate([given.roles, np.full(pads, ROLE_CODES["pad"], dtype=given.roles.dtype)])
    mask = torch.cat([torch.ones(1, tokens), torch.zeros(1, pads)], dim=1).long()
    return ModelInput(
        input_ids=pad_right(given.input_ids, length, pad_token),
        roles=roles,
        in_prompt=np.concatenate([given.in_prompt, np.zeros(pads, dtype=bool)]),
        positions=np.arange(length, dtype=np.int64)[None],
        arguments={"attention_mask": mask.to(device)},
    )


def pad_right(values: torch.Tensor, length: int, value: int = 0) -> torch.Tensor:
    """Returns values (..., tokens) with a value on their right, (..., length)."""
    return torch.nn.functional.pad(values, (0, length - values.shape[-1]), value=value)


def load_tokenizer(folder: Path) -> Qwen2Tokenizer:
    """Loads a Qwen tokenizer and makes sure that it has its chat template."""
    tokenizer = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.chat_template is None:
        # Older vision checkpoints keep the template in a file that only their processor reads.
        tokenizer.chat_template = read_chat_template(folder)
    return tokenizer


def tokenize(tokenizer: Any, layout: PromptLayout) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Tokenizes a rendered prompt.

    Returns:
        int64 (1, tokens), and (start, end) in characters for each token.
    """
    encoding = tokenizer(layout.text, return_offsets_mapping=True)
    return torch.tensor([encoding["input_ids"]], dtype=torch.int64), encoding["offset_mapping"]


def load_weights(
    model_class: type[PreTrainedModel], folder: Path, config: PreTrainedConfig, dtype: torch.dtype
) -> PreTrainedModel:
    """Loads a model for inference, and fails where the checkpoint lacks any of its weights.

    Raises:
        ValueError: naming the missing or misshapen weights, which the library would initialise at random.
    """
    model, info = model_class.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    wrong = sorted(str(key) for key in (*info["missing_keys"], *info["mismatched_keys"]))
    if wrong:
        raise ValueError(
            f"the checkpoint in {folder} lacks {len(wrong)} weights of {model_class.__name__} or has them in "
            f"another shape, among them {', '.join(wrong[:3])}; change its path, repo or family in "
            "config/models.yaml"
        )
    return model.eval().requires_grad_(False)


def check_layers(layers: Sequence[int], deepest: int) -> list[int]:
    """Returns the layers sorted, each once.

    Raises:
        ValueError: where there are none, or one is negative or deeper than what was loaded.
    """
    wanted = sorted(set(layers))
    if not wanted or wanted[0] < 0 or wanted[-1] > deepest:
        raise ValueError(
            f"layers {list(layers)} are not entries of hidden_states between 0 and {deepest}, "
            "the deepest layer this encoder was loaded for"
        )
    return wanted


@contextmanager
def rotary_base(model: PreTrainedModel, rope_theta: float | None) -> Iterator[None]:
    """Runs a model with another base of its rotary embedding, as if it had been loaded with an edited config.

    Args:
        model: Its `rotary_emb` is replaced meanwhile.
        rope_theta: The base; None for the checkpoint's own.
    """
    own = model.rotary_emb
    if rope_theta is not None:
        config = copy.deepcopy(model.config)
        config.rope_parameters = {**config.rope_parameters, "rope_theta": rope_theta}
        # Frequencies are float32 whatever the weights are, and are made on the CPU when a model is loaded.
        model.rotary_emb = type(own)(config).to(model.device)
    try:
        yield
    finally:
        model.rotary_emb = own


def take_states(
    hidden_states: Sequence[Any], layers: Sequence[int], row: int = 0, tokens: int | None = None
) -> dict[int, torch.Tensor]:
    """Takes a row of a batch to the CPU, each entry (tokens, hidden_size) with memory of its own.

    Args:
        hidden_states: As the library returns them, each (rows, length, hidden_size).
        layers: Entries that are taken.
        row: Number of the row.
        tokens: How many there are before the pads; None for all.

    Raises:
        FloatingPointError: where a value is not finite, naming layer and counts.
    """
    states = {layer: hidden_states[layer][row, :tokens].detach().to("cpu", copy=True) for layer in layers}
    for layer, state in states.items():
        finite = torch.isfinite(state)
        if not bool(finite.all()):
            tokens = int((~finite).any(dim=1).sum())
            raise FloatingPointError(
                f"layer {layer} has {int((~finite).sum())} of {finite.numel()} non-finite values, in "
                f"{tokens} of {finite.shape[0]} tokens; set config/config.yaml: hardware.extraction.dtype to float32"
            )
    return states
