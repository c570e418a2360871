"""Hidden states that another program has written: a folder of safetensors files takes the place of a model.

See `graftwork.models.state_files` for what a file has.
"""

from collections.abc import Callable
from pathlib import Path

from graftwork.models.families import EncoderFacts, EncoderFamily, ModelFolder
from graftwork.models.prompts import AskedInput
from graftwork.models.state_files import read_index


def read_facts(folder: Path, tokenizer: Path) -> EncoderFacts:
    """Returns the facts of states in files, from their headers."""
    index = read_index(folder)
    return EncoderFacts(
        family=FAMILY.name,
        num_hidden_layers=index.num_hidden_layers,
        hidden_size=index.width,
        accepts_images=index.has_images,
        rope_theta=None,
        special_tokens=[],
        # Whatever was put around a prompt is part of the states.
        has_chat_template=True,
    )


def lacks(folder: Path) -> Callable[[AskedInput, int], str | None]:
    """Returns what says why a folder does not have one layer of an input, or None."""
    return read_index(folder).lacks


FAMILY = EncoderFamily(
    name="safetensors",
    encoder=f"{__name__}.encoder:WrittenStates",
    captioner=None,
    model_type=None,
    accepts_images=True,
    prompt_formats=("chat", "raw", "instruct"),
    natural_format="chat",
    pads_texts=True,
    batches_prompts=False,
    # A tokenizer may lie beside them. It says which words token ids stand for, and decides no states.
    folders=lambda entry: (ModelFolder(entry.get("subfolder") or "", ("*.safetensors",), ()),),
    read_facts=read_facts,
    weight_shapes=lambda folder: [],
    image_problem=lambda facts, width, height: None,
    image_tokens=lambda facts, width, height: 0,
    lacks=lacks,
)
