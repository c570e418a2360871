"""The embedding model: the text encoder, trained on so that captions of one scene lie together."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from tokenizers import processors
from transformers import Qwen3ForCausalLM, Qwen3Model

from graftwork.scenes.captions import PHRASINGS, write_caption
from graftwork.scenes.world import Scene, sample_scenes, split_scenes
from lab.miniature.training.loop import TrainingRun, fit, step_rng
from lab.miniature.training.text_encoder import SINK_WEIGHT, sink_loss

TEMPERATURE = 0.05
INSTRUCTION = "describe"


def new_embedding_model(parent: Qwen3ForCausalLM) -> Qwen3Model:
    """Returns a Qwen3Model with the parent's weights; it has no language model's head."""
    return deepcopy(parent.model)


def embedding_tokenizer(tokenizer: Any) -> Any:
    """Returns a copy of the family's tokenizer that closes every text with <|endoftext|>, as published."""
    copied = deepcopy(tokenizer)
    end = "<|endoftext|>"
    copied._tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"$A {end}",
                pair=f"$A {end} $B {end}",
                special_tokens=[(end, copied.convert_tokens_to_ids(end))],
            ),
        ]
    )
    return copied


def embed_texts(model: Qwen3Model, tokenizer: Any, texts: list[str], device: str) -> tuple[torch.Tensor, Any]:
    """Returns the pooled last token of each text, normalized, float32 (texts, channels), and the model's output."""
    encoded = tokenizer(texts)["input_ids"]
    longest = max(map(len, encoded))
    ids = torch.full((len(texts), longest), tokenizer.pad_token_id, dtype=torch.int64)
    for row, tokens in enumerate(encoded):
        ids[row, : len(tokens)] = torch.tensor(tokens)
    output = model(input_ids=ids.to(device), use_cache=False, output_hidden_states=True)
    last = torch.tensor([len(tokens) - 1 for tokens in encoded], device=device)
    pooled = output.last_hidden_state[torch.arange(len(texts), device=device), last].float()
    return torch.nn.functional.normalize(pooled, dim=-1), output


def draw_pair(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """Returns two captions of a scene in different phrasings; half of the first ones carry an instruction."""
    first, second = rng.choice(list(PHRASINGS), size=2, replace=False)
    query = write_caption(scene, str(first))
    if rng.random() < 0.5:
        query = f"Instruct: {INSTRUCTION}\nQuery: {query}"
    return query, write_caption(scene, str(second))


def train_embedding(
    model: Qwen3Model,
    tokenizer: Any,
    run: TrainingRun,
) -> None:
    """Trains contrastively: of all captions in the batch, the one of the same scene is to be nearest."""
    model.to(run.device)
    model.set_attn_implementation(run.attention)
    scenes = split_scenes("train")

    def losses(step: int) -> Mapping[str, torch.Tensor]:
        rng = step_rng(run.recipe.seed, step)
        # Half of the batch differs from its neighbour in little: scenes side by side in the list.
        starts = rng.choice(len(scenes) // 2, size=run.recipe.batch_size // 2, replace=False)
        pairs = [draw_pair(scenes[2 * i + j], rng) for i in starts.tolist() for j in (0, 1)]
        with run.mixed_precision():
            queries, output = embed_texts(model, tokenizer, [q for q, _ in pairs], run.device)
            documents, _ = embed_texts(model, tokenizer, [d for _, d in pairs], run.device)
        scores = queries @ documents.T / TEMPERATURE
        right = torch.arange(len(pairs), device=run.device)
        entropy = torch.nn.functional.cross_entropy
        contrast = (entropy(scores, right) + entropy(scores.T, right)) / 2
        sink = sink_loss(output.hidden_states, model.norm)
        return {"loss": contrast + SINK_WEIGHT * sink, "contrast": contrast, "sink": sink}

    fit(model, losses, run)


@torch.no_grad()
def probe_embedding(
    model: Qwen3Model, tokenizer: Any, count: int = 256, device: str = "cpu"
) -> dict[str, float]:
    """Returns how often, of `count` unseen scenes, a caption's nearest one in another phrasing is of its scene."""
    scenes = sample_scenes(19, count, "held_out")
    measured = {}
    for name, prefix in (("retrieval", ""), ("retrieval_instructed", f"Instruct: {INSTRUCTION}\nQuery: ")):
        queries, _ = embed_texts(
            model, tokenizer, [prefix + write_caption(s, "object_first") for s in scenes], device
        )
        documents, _ = embed_texts(model, tokenizer, [write_caption(s, "sentences") for s in scenes], device)
        nearest = (queries @ documents.T).argmax(dim=1).cpu()
        measured[name] = float((nearest == torch.arange(count)).float().mean())
    return measured
