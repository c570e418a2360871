"""A shard of encoder inputs on an encoder that only notes what it was asked for."""

import itertools
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from graftwork.core.code_digest import REPOSITORY
from graftwork.core.fact_cache import FactCache
from graftwork.jobs import extraction
from graftwork.jobs.extraction import extract_hidden_states
from graftwork.models import loading
from graftwork.models.encoder import EncodedSequence
from graftwork.models.images import open_reference
from graftwork.models.prompts import NEUTRAL_OPTIONS, InputOptions
from graftwork.planning.shards import EncoderInputs, ExtractionShard, InputToExtract, ModelToLoad
from graftwork.store.hidden_states import intact_layers, read_layer
from graftwork.store.layout import Store
from graftwork.store.records import EncoderInput

LOG = logging.getLogger("test")


class Encoder:
    def __init__(self, dtype):
        self.dtype = dtype
        self.calls = []
        self.batches = []
        self.options = []

    def encode_image(self, image, image_key):
        self.calls.append((None, image.size, image_key, [0]))
        states = {0: torch.full((2, 4), 0.5, dtype=self.dtype)}
        return EncodedSequence(np.arange(2), np.full(2, 3, dtype=np.uint8), np.zeros((3, 2), int), states)

    def files_of(self, asked):
        return None

    def encode_batches(self, prompts, image, image_key, rows):
        self.batches.append((rows, image_key, [(one.prompt, one.layers) for one in prompts]))
        for number in reversed(range(len(prompts))):
            one = prompts[number]
            try:
                yield number, self.encode(one.prompt, image, image_key, one.layers, one.options)
            except FloatingPointError as error:
                yield number, error

    def encode(self, prompt, image, image_key, layers, options):
        self.calls.append((prompt, None if image is None else image.size, image_key, list(layers)))
        self.options.append(options)
        if prompt == "bad":
            raise FloatingPointError("layer 7 has 3 of 9 non-finite values")
        states = {layer: torch.full((3, 4), layer + 0.1, dtype=self.dtype) for layer in layers}
        return EncodedSequence(np.arange(3), np.zeros(3, dtype=np.uint8), np.arange(3)[None], states)


@pytest.fixture
def encoders(monkeypatch):
    made = []

    def load(name, entry, layers, hardware):
        made.append(Encoder({"float32": torch.float32, "bfloat16": torch.bfloat16}[hardware["dtype"]]))
        made[-1].layers = list(layers)
        return made[-1]

    monkeypatch.setattr(loading, "load_encoder", load)
    return made


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def item(key, layers, prompt="a hat", path=None):
    made = EncoderInput(
        dtype="float32",
        device="cpu",
        cpu_threads=1,
        encoder="content:e",
        prompt=prompt,
        reference=None if path is None else f"sha of {path.name}",
        code="",
    )
    return InputToExtract(key * 32, tuple(layers), path and str(path), made)


def changed(one, **values):
    return replace(one, input=replace(one.input, **values))


def shard(*inputs, dtype="float32"):
    hardware = {"device": "cpu", "dtype": dtype, "cpu_threads": 1}
    return ExtractionShard(hardware, (EncoderInputs(ModelToLoad("e", {"family": "qwen3"}), inputs),))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layers_are_stored_bit_for_bit(store, encoders, dtype):
    record = extract_hidden_states(shard(item("a", [5, 7]), dtype=dtype), store, LOG)
    assert record.made == ["a" * 32]
    assert encoders[0].layers == [5, 7]
    states = read_layer(store.hidden_states("a" * 32), 7)
    assert states.dtype == dtype
    expected = torch.full((3, 4), 7.1, dtype=encoders[0].dtype)
    bits = expected.view(torch.int16).numpy().view(np.uint16) if dtype == "bfloat16" else expected.numpy()
    assert (states.values == bits).all()
    assert FactCache(store.verified).known(store.hidden_states("a" * 32)) == [5, 7]


def test_nothing_missing_loads_nothing_and_one_more_layer_only_that(store, encoders):
    extract_hidden_states(shard(item("a", [7])), store, LOG)
    record = extract_hidden_states(shard(item("a", [7])), store, LOG)
    assert record.found == ["a" * 32]
    assert len(encoders) == 1
    extract_hidden_states(shard(item("a", [5, 7])), store, LOG)
    assert encoders[1].calls == [("a hat", None, None, [5])]
    assert intact_layers(store.hidden_states("a" * 32)) == [5, 7]


def test_images_are_read_and_named(store, encoders, tmp_path):
    path = tmp_path / "house.png"
    shutil.copy(REPOSITORY / "resources/references/cartoon_house.png", path)
    inputs = [item("a", [7], path=path), item("b", [7], "another", path=path), item("c", [7])]
    extract_hidden_states(shard(*inputs), store, LOG)
    keys = [(size is not None, key) for _, size, key, _ in encoders[0].calls]
    assert keys == [(True, "sha of house.png"), (True, "sha of house.png"), (False, None)]


def test_an_input_that_fails_is_recorded_and_the_others_go_on(store, encoders, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    inputs = [item("a", [7], "bad"), item("b", [7], path=broken), item("c", [7])]
    record = extract_hidden_states(shard(*inputs), store, LOG)
    assert record.made == ["c" * 32]
    assert "non-finite" in record.failures["a" * 32]
    assert "broken.png cannot be read" in record.failures["b" * 32]
    assert not store.hidden_states("a" * 32).exists()


def test_texts_are_encoded_in_batches_where_their_keys_say_so(store, encoders, tmp_path):
    path = tmp_path / "house.png"
    shutil.copy(REPOSITORY / "resources/references/cartoon_house.png", path)
    texts = [
        changed(item(key, [7], text), batch_shape=4)
        for key, text in zip("abc", ("one", "bad", "two"), strict=True)
    ]
    record = extract_hidden_states(
        shard(texts[0], item("d", [5], path=path), *texts[1:], item("e", [5])), store, LOG
    )
    assert encoders[0].batches == [(4, None, [("one", (7,)), ("bad", (7,)), ("two", (7,))])]
    assert sorted(record.made) == [key * 32 for key in "acde"]
    assert list(record.failures) == ["b" * 32]
    assert "non-finite" in record.failures["b" * 32]
    # The next run makes what failed, and asks for no other.
    extract_hidden_states(shard(*texts), store, LOG)
    assert encoders[1].batches == [(4, None, [("bad", (7,))])]


def test_prompts_with_one_image_are_encoded_in_batches_of_their_own(store, encoders, tmp_path):
    paths = [tmp_path / f"{name}.png" for name in ("house", "tree")]
    for path in paths:
        shutil.copy(REPOSITORY / "resources/references/cartoon_house.png", path)
    inputs = [
        changed(item(key, [7], key, path=path), batch_shape=4)
        for key, path in zip("abcde", (paths[0], paths[1], None, paths[0], None), strict=True)
    ]
    tower = changed(item("f", [0], path=paths[0]), prompt=None, source="vision_tower")
    record = extract_hidden_states(shard(*inputs, tower), store, LOG)
    assert sorted(record.made) == [key * 32 for key in "abcdef"]
    asked = [(image_key, [prompt for prompt, _ in prompts]) for _, image_key, prompts in encoders[0].batches]
    assert asked == [("sha of house.png", ["a", "d"]), ("sha of tree.png", ["b"]), (None, ["c", "e"])]
    # What is made of an image alone follows where its features are still there.
    keys = [image_key for _, _, image_key, _ in encoders[0].calls]
    assert [key for key, _ in itertools.groupby(keys)] == ["sha of house.png", "sha of tree.png", None]


def test_options_of_a_key_reach_the_encoder(store, encoders):
    given = {"prompt_format": {"instruct": "describe"}, "rope_theta": 1e6, "positions": "sequential"}
    extract_hidden_states(shard(item("a", [7]), changed(item("b", [7]), **given)), store, LOG)
    assert encoders[0].options == [NEUTRAL_OPTIONS, InputOptions(**given)]


def test_the_vision_tower_is_asked_for_an_image_alone(store, encoders, tmp_path):
    path = tmp_path / "house.png"
    shutil.copy(REPOSITORY / "resources/references/cartoon_house.png", path)
    tower = changed(item("a", [0], path=path), prompt=None, source="vision_tower")
    extract_hidden_states(shard(tower, item("b", [7], path=path)), store, LOG)
    assert [call[0] for call in encoders[0].calls] == [None, "a hat"]
    states = read_layer(store.hidden_states("a" * 32), 0)
    assert states.values.shape == (2, 4)
    assert states.roles.tolist() == [3, 3]


def test_a_neutral_image_is_made_by_its_name(store, encoders):
    grey = changed(replace(item("a", [7]), path="grey:12x8"), reference="grey:12x8")
    record = extract_hidden_states(shard(grey), store, LOG)
    assert record.failures == {}
    assert encoders[0].calls == [("a hat", (12, 8), "grey:12x8", [7])]
    pixels = np.asarray(open_reference("grey:12x8"))
    assert pixels.shape == (8, 12, 3)
    assert (pixels == 128).all()


def test_an_input_that_cannot_be_stored_is_recorded_and_the_others_go_on(store, encoders, monkeypatch):
    """Also the last one, whose error comes after the encoder has done everything."""
    real = extraction.add_layers

    def add_layers(path, *arguments):
        if path.stem in ("a" * 32, "c" * 32):
            raise OSError("no space left on device")
        return real(path, *arguments)

    monkeypatch.setattr(extraction, "add_layers", add_layers)
    record = extract_hidden_states(shard(item("a", [7]), item("b", [7]), item("c", [7])), store, LOG)
    assert record.made == ["b" * 32]
    assert set(record.failures) == {"a" * 32, "c" * 32}
    assert "no space left" in record.failures["c" * 32]
    assert FactCache(store.verified).known(store.hidden_states("b" * 32)) == [7]


def test_more_inputs_than_may_wait_are_all_stored(store, encoders, monkeypatch):
    monkeypatch.setattr(extraction._Writer, "_MOST_WAITING", 1)
    inputs = [item(f"{number:x}", [7]) for number in range(16)]
    record = extract_hidden_states(shard(*inputs), store, LOG)
    assert sorted(record.made) == sorted(one.key for one in inputs)
    assert all(intact_layers(store.hidden_states(key)) == [7] for key in record.made)


def test_encoders_of_a_shard_are_loaded_one_after_the_other(store, encoders):
    one, other = shard(item("a", [7])), shard(item("b", [5]), item("c", [6]))
    record = extract_hidden_states(replace(one, parts=(*one.parts, *other.parts)), store, LOG)
    assert [encoder.layers for encoder in encoders] == [[7], [5, 6]]
    assert sorted(record.made) == ["a" * 32, "b" * 32, "c" * 32]
    assert extract_hidden_states(one, store, LOG).found == ["a" * 32]


def test_an_encoder_that_does_not_load_fails_the_job_when_the_others_are_done(store, encoders, monkeypatch):
    whole = shard(item("a", [7]))
    broken = replace(
        whole, parts=(replace(whole.parts[0], encoder=ModelToLoad("f", {"family": "qwen3"})), *whole.parts)
    )
    broken = replace(broken, parts=(replace(broken.parts[0], inputs=(item("b", [5]),)), broken.parts[1]))
    real = loading.load_encoder

    def load(name, *arguments):
        if name == "f":
            raise ValueError("folder of encoder 'f' lacks config.json")
        return real(name, *arguments)

    monkeypatch.setattr(loading, "load_encoder", load)
    with pytest.raises(ValueError, match=r"lacks config\.json"):
        extract_hidden_states(broken, store, LOG)
    assert intact_layers(store.hidden_states("a" * 32)) == [7]
    assert intact_layers(store.hidden_states("b" * 32)) == []
