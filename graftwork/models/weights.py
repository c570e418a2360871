"""What the encoders share: loading only the layers that are needed, and taking hidden states out."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

# Bars that redraw themselves are noise in a log file.
logging.disable_progress_bar()

# Weights that a truncated base model does not use: the language model's head and the layers above.
UNUSED_WEIGHTS = [r"^lm_head\.", r"(^|\.)layers\.\d+\."]


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


def take_states(hidden_states: Sequence[Any], layers: Sequence[int]) -> dict[int, torch.Tensor]:
    """Takes entries of a batch of one to the CPU, each (tokens, hidden_size) with memory of its own.

    Raises:
        FloatingPointError: where a value is not finite, naming layer and counts.
    """
    states = {layer: hidden_states[layer][0].detach().to("cpu", copy=True) for layer in layers}
    for layer, state in states.items():
        finite = torch.isfinite(state)
        if not bool(finite.all()):
            tokens = int((~finite).any(dim=1).sum())
            raise FloatingPointError(
                f"layer {layer} has {int((~finite).sum())} of {finite.numel()} non-finite values, in "
                f"{tokens} of {finite.shape[0]} tokens; try config/config.yaml: hardware.dtype float32"
            )
    return states
