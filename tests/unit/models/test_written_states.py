"""States that another program has written: what a file has to have, and what is said of one that is wrong."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from graftwork.models.catalog import ModelCatalog
from graftwork.models.families import encoder_family
from graftwork.models.loading import load_encoder
from graftwork.models.prompts import AskedInput, InputOptions
from graftwork.models.state_files import describe_file, read_index
from graftwork.models.tokens import ROLES

ENTRY = {"family": "safetensors", "path": ""}
HARDWARE = {"device": "cpu", "dtype": "float32", "cpu_threads": 1}
IMAGE = "9" * 64


def write(
    folder: Path, name: str = "one", metadata: dict | None = None, **tensors: torch.Tensor | None
) -> Path:
    """Writes states of five tokens and width 8; `None` leaves a tensor out."""
    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(len(name))
    given = {f"layer_{layer}": torch.randn(5, 8, generator=generator) for layer in (3, 6)}
    given = {key: value for key, value in {**given, **tensors}.items() if value is not None}
    path = folder / f"{name}.safetensors"
    save_file(given, path, {"prompt": "a red apple", **(metadata or {})})
    return path


def catalog(root: Path, folder: Path, **entry: str) -> ModelCatalog:
    entries = {"encoders": {"mine": {**ENTRY, "path": str(folder), **entry}}, "generators": {}, "scorers": {}}
    return ModelCatalog(entries, "config/models.yaml", root / "facts")


def test_a_tensor_and_a_prompt_are_enough(tmp_path):
    file = write(tmp_path / "states", layer_3=None)
    model = catalog(tmp_path, tmp_path / "states").get("encoder", "mine", "a test")
    assert (model.facts.num_hidden_layers, model.facts.hidden_size) == (6, 8)
    assert not model.facts.accepts_images
    encoder = load_encoder("mine", model.entry, [6], HARDWARE)
    found = encoder.encode("a red apple", None, None, [6])
    with_bytes = describe_file(file)
    assert with_bytes.layers == (6,)
    assert set(found.hidden_states) == {6}
    assert {ROLES[code] for code in found.roles} == {"prompt"}
    assert found.token_ids.tolist() == [-1] * 5
    assert found.positions.tolist() == [[0, 1, 2, 3, 4]]


def test_everything_that_a_file_says_is_taken(tmp_path):
    states = torch.randn(5, 8)
    write(
        tmp_path / "states",
        "other",
        {
            "prompt": "a blue boat",
            "reference_sha256": IMAGE,
            "roles": "prompt sink image",
            "options": json.dumps({"think_block": {"text": "hm"}}),
            "num_hidden_layers": "9",
            "tool": "not read",
        },
        layer_3=states,
        token_ids=torch.arange(5, dtype=torch.int32),
        roles=torch.tensor([1, 2, 2, 0, 0], dtype=torch.uint8),
        positions=torch.arange(15).reshape(3, 5),
        in_prompt=torch.tensor([False, False, False, True, True]),
    )
    write(tmp_path / "states")
    model = catalog(tmp_path, tmp_path / "states").get("encoder", "mine", "a test")
    assert (model.facts.num_hidden_layers, model.facts.accepts_images) == (9, True)
    encoder = load_encoder("mine", model.entry, [3], HARDWARE)
    options = InputOptions(think_block={"text": "hm"})
    found = encoder.encode("a blue boat", None, IMAGE, [3], options)
    assert torch.equal(found.hidden_states[3], states)
    assert [ROLES[code] for code in found.roles] == ["sink", "image", "image", "prompt", "prompt"]
    assert found.token_ids.tolist() == [0, 1, 2, 3, 4]
    assert found.positions.shape == (3, 5)
    assert found.in_prompt.tolist() == [False, False, False, True, True]
    with pytest.raises(ValueError, match=r"has no file of prompt 'a blue boat' with image 9{12}; there are"):
        encoder.encode("a blue boat", None, IMAGE, [3])


def test_a_vision_tower_is_an_input_of_its_own(tmp_path):
    write(
        tmp_path / "states",
        "tower",
        {"source": "vision_tower", "reference_sha256": IMAGE},
        layer_0=torch.ones(5, 8),
    )
    write(tmp_path / "states")
    encoder = load_encoder("mine", {**ENTRY, "path": str(tmp_path / "states")}, [0], HARDWARE)
    assert torch.equal(encoder.encode_image(None, IMAGE).hidden_states[0], torch.ones(5, 8))


@pytest.mark.parametrize(
    ("given", "wanted"), [("float32", "bfloat16"), ("bfloat16", "float32"), ("float16", "float32")]
)
def test_states_are_given_in_the_type_of_the_hardware(tmp_path, given, wanted):
    states = torch.randn(5, 8).to(getattr(torch, given))
    write(tmp_path / "states", layer_6=states)
    entry = {**ENTRY, "path": str(tmp_path / "states")}
    found = load_encoder("mine", entry, [6], {**HARDWARE, "dtype": wanted}).encode(
        "a red apple", None, None, [6]
    )
    assert torch.equal(found.hidden_states[6], states.to(getattr(torch, wanted)))


# Name of what is wrong -> tensors, metadata, and what is said, after the name of the file.
WRONG = {
    "no layer": (
        {"layer_3": None, "layer_6": None, "states": torch.ones(5, 8)},
        {},
        r"has no tensor layer_\{k\}.*states",
    ),
    "a type": (
        {"layer_6": torch.ones(5, 8).double()},
        {},
        "layer_6 has the type F64; allowed: F32, F16, BF16",
    ),
    "a batch": (
        {"layer_3": torch.ones(1, 5, 8)},
        {},
        r"layer_3 has the shape \[1, 5, 8\]; \(tokens, width\)",
    ),
    "empty": ({"layer_3": torch.ones(0, 8)}, {}, r"layer_3 has the shape \[0, 8\]"),
    "another shape": (
        {"layer_6": torch.ones(4, 8)},
        {},
        r"layer_6 has the shape \[4, 8\], the first layer \[5, 8\]",
    ),
    "a typing error": (
        {"token_id": torch.ones(5)},
        {},
        "tensor token_id is not known; allowed: .*token_ids, roles",
    ),
    "too few ids": (
        {"token_ids": torch.ones(4).long()},
        {},
        r"token_ids has the shape \[4\]; \[5\] is needed",
    ),
    "ids of floats": ({"token_ids": torch.ones(5)}, {}, "token_ids has the type F32; allowed: I64, I32"),
    "two axes": (
        {"positions": torch.ones(2, 5).long()},
        {},
        r"positions has the shape \[2, 5\]; \[1, 5\] or \[3, 5\]",
    ),
    "no names of roles": ({"roles": torch.zeros(5).byte()}, {}, "metadata roles is missing"),
    "a role": (
        {"roles": torch.zeros(5).byte()},
        {"roles": "user"},
        "metadata roles has 'user'.*template, sink",
    ),
    "options": ({}, {"options": '{"format": "raw"}'}, "metadata options is .*allowed: .*prompt_format"),
    "no JSON": ({}, {"options": "raw"}, "metadata options is"),
    "a source": ({}, {"source": "tower"}, "metadata source is 'tower'; allowed: hidden_states, vision_tower"),
    "a tower of nothing": ({}, {"source": "vision_tower"}, "metadata reference_sha256 is missing"),
    "layers": ({}, {"num_hidden_layers": "many"}, "metadata num_hidden_layers is 'many'; a whole number"),
    "too few layers": (
        {},
        {"num_hidden_layers": "5"},
        "has num_hidden_layers 5, but a file beside it has layer_6",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_before_anything_runs(tmp_path, case):
    tensors, metadata, message = WRONG[case]
    write(tmp_path / "states", "wrong", metadata, **tensors)
    with pytest.raises(ValueError, match=message) as raised:
        catalog(tmp_path, tmp_path / "states").get("encoder", "mine", "a test")
    assert "config/models.yaml: encoders.mine: " in str(raised.value)
    assert "wrong.safetensors" in str(raised.value)


def test_a_file_without_a_prompt_is_named(tmp_path):
    (tmp_path / "states").mkdir()
    save_file({"layer_3": torch.ones(5, 8)}, tmp_path / "states/bare.safetensors")
    with pytest.raises(ValueError, match=r"bare\.safetensors: metadata prompt is missing"):
        read_index(tmp_path / "states")


def test_files_that_do_not_go_together_are_named(tmp_path):
    write(tmp_path / "twice", "one")
    write(tmp_path / "twice", "two")
    with pytest.raises(ValueError, match=r"one.*two|two.*one.* are both of prompt 'a red apple'"):
        read_index(tmp_path / "twice")
    write(tmp_path / "widths", "one")
    write(tmp_path / "widths", "two", {"prompt": "b"}, layer_3=torch.ones(5, 4), layer_6=None)
    with pytest.raises(ValueError, match=r"width 4, .* of 8; put the states of each encoder"):
        read_index(tmp_path / "widths")
    write(tmp_path / "depths", "one", {"num_hidden_layers": "8"})
    write(tmp_path / "depths", "two", {"prompt": "b", "num_hidden_layers": "9"})
    with pytest.raises(ValueError, match=r"num_hidden_layers 8, .* 9; put"):
        read_index(tmp_path / "depths")


def test_a_folder_without_files_and_a_truncated_file(tmp_path):
    (tmp_path / "states").mkdir()
    with pytest.raises(ValueError, match=r"encoders\.mine: .*has no file \*\.safetensors"):
        catalog(tmp_path, tmp_path / "states").get("encoder", "mine", "a test")
    file = write(tmp_path / "states")
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"one\.safetensors is truncated"):
        catalog(tmp_path, tmp_path / "states").get("encoder", "mine", "a test")
    file.write_bytes(struct.pack("<Q", 3) + b"{}]")
    with pytest.raises(ValueError, match=r"one\.safetensors has a header that is not one"):
        read_index(tmp_path / "states")


def test_content_is_identity(tmp_path):
    folder = tmp_path / "states"
    file = write(folder)
    names = [catalog(tmp_path, folder).get("encoder", "mine", "a test").identity]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    names.append(catalog(tmp_path, folder).get("encoder", "mine", "a test").identity)
    write(folder, "two", {"prompt": "a blue boat"})
    names.append(catalog(tmp_path, folder).get("encoder", "mine", "a test").identity)
    assert len(set(names)) == 3


def test_what_values_are_wrong_the_worker_says(tmp_path):
    folder = tmp_path / "states"
    wrong = torch.ones(5, 8)
    wrong[2, 3] = torch.inf
    write(
        folder,
        layer_6=wrong,
        roles=torch.tensor([0, 0, 0, 0, 7], dtype=torch.uint8),
        metadata={"roles": "prompt"},
    )
    encoder = load_encoder("mine", {**ENTRY, "path": str(folder)}, [3], HARDWARE)
    with pytest.raises(
        FloatingPointError, match=r"layer_6 has 1 of 40 values that are not finite as float32"
    ):
        encoder.encode("a red apple", None, None, [6])
    with pytest.raises(
        ValueError, match=r"roles has the code 7, but metadata roles has 1 names; allowed: 0 to 0"
    ):
        encoder.encode("a red apple", None, None, [3])
    # More than float16 and bfloat16 can hold is found where it is cast.
    write(folder, "large", {"prompt": "large"}, layer_6=torch.full((5, 8), torch.finfo(torch.float32).max))
    narrow = load_encoder("mine", {**ENTRY, "path": str(folder)}, [6], {**HARDWARE, "dtype": "bfloat16"})
    with pytest.raises(FloatingPointError, match="not finite as bfloat16"):
        narrow.encode("large", None, None, [6])


def test_what_is_not_there_is_said_with_what_is(tmp_path):
    write(tmp_path / "states")
    lacks = encoder_family("safetensors").lacks(tmp_path / "states")
    assert lacks(AskedInput("a red apple", None), 3) is None
    problem = lacks(AskedInput("a red apple", None), 5)
    assert "has no tensor layer_5, entry 5 of hidden_states 0 to 6; it has the layers 3, 6: choose" in problem
    problem = lacks(AskedInput("a pear", None, options=InputOptions("raw")), 3)
    assert (
        'has no file of prompt \'a pear\' with options {"prompt_format": "raw"}; there are files of prompt'
        in problem
    )


def test_a_file_that_changes_is_read_again(tmp_path):
    write(tmp_path / "states")
    assert read_index(tmp_path / "states") is read_index(tmp_path / "states")
    write(tmp_path / "states", layer_7=torch.ones(5, 8))
    assert read_index(tmp_path / "states").num_hidden_layers == 7
    assert np.array_equal(
        read_index(tmp_path / "states").find(AskedInput("a red apple", None)).layers, (3, 6, 7)
    )
