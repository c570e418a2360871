"""Sizes of the miniature family, its sink, and its tokenizer."""

from transformers import Qwen2Tokenizer

from graftwork.scenes.captions import PHRASINGS, write_caption
from graftwork.scenes.world import sample_scenes
from lab.miniature.tasks import TASKS, TEXT_TASKS, complete_object, complete_setting
from lab.small_parts import SmallShape, train_tokenizer
from lab.small_vocabulary import QWEN3_TEMPLATE

PICTURE_SIZE = 64
REFERENCE_SIZE = 128

SIZES = SmallShape(
    # Enough for every word of the miniature world to be one token; training stops when there are no more merges.
    vocab_size=640,
    hidden_size=128,
    num_hidden_layers=12,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    intermediate_size=320,
    vision_depth=4,
    vision_hidden_size=96,
    vision_num_heads=4,
    longest_edge=REFERENCE_SIZE * REFERENCE_SIZE,
    dim=192,
    n_layers=6,
    n_heads=6,
    axes_dims=(8, 12, 12),
    vae_channels=(16, 32, 48, 64),
)

# The state that conditions the transformer, as in the published pipeline.
CONDITIONING_LAYER = -2

# The states that condition the second transformer, and the length its prompts are padded to: a quarter, half and three
# quarters of the way, as published; the longest caption takes 38 tokens in the template.
FLUX2_LAYERS = (3, 6, 9)
FLUX2_TOKENS = 40
FLUX2_STEPS = 8

# Where the massive activations at position 0 are trained to be: dimension -> value, of the sign and proportion
# that was found in Qwen3-4B (dimensions 396 and 4), and from which entry of `hidden_states` on.
SINK_VALUES = {39: -200.0, 4: 600.0}
SINK_FROM_LAYER = 4


def new_tokenizer() -> Qwen2Tokenizer:
    """Returns the family's tokenizer, trained on captions, tasks and answers of the world."""
    corpus: list[str] = ["user\n", "assistant\n", "system\n", "Instruct: describe\nQuery: a"] * 40
    for scene in sample_scenes(0, 2000, "all"):
        corpus += [write_caption(scene, phrasing) for phrasing in PHRASINGS]
        for make in [*TASKS.values(), *TEXT_TASKS.values(), complete_object, complete_setting]:
            task = make(scene, 0)
            corpus += [task.prompt, task.answer]
    tokenizer = train_tokenizer(corpus, SIZES.vocab_size)
    tokenizer.chat_template = QWEN3_TEMPLATE
    return tokenizer
