"""What changes between planning and a job ends the job, and nothing is stored."""

import logging
import os
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from graftwork.core import code_digest as digests
from graftwork.core.code_digest import code_digest, forget_code
from graftwork.core.fact_cache import FactCache
from graftwork.core.records import record_digest
from graftwork.jobs import planned
from graftwork.jobs.conditioning import condition
from graftwork.jobs.extraction import extract_hidden_states
from graftwork.jobs.generation import generate_images
from graftwork.jobs.maps import fit_maps
from graftwork.jobs.planned import (
    ChangedSincePlanning,
    Planned,
    UsedCode,
    UsedModel,
    conditioning_as_planned,
    ending_in_words,
    extraction_as_planned,
    images_as_planned,
    require_code,
    require_inputs,
    require_reference,
    statistics_as_planned,
)
from graftwork.jobs.statistics import measure_statistics
from graftwork.models import loading
from graftwork.models.catalog import identity_of
from graftwork.models.encoders.safetensors.encoder import WrittenStates
from graftwork.models.loading import ensure_model
from graftwork.planning.code import extraction_code, map_code
from graftwork.planning.shards import (
    ConditioningShard,
    EncoderInputs,
    ExtractionShard,
    ImageShard,
    InputToExtract,
    MapShard,
    MapToFit,
    ModelToLoad,
    StatisticsShard,
    read_shard,
)
from graftwork.store.hidden_states import read_layer
from graftwork.store.layout import Store
from graftwork.store.records import EncoderInput, MapParts
from tests.unit.design.designs import experiment
from tests.unit.planning.fake_store import Situation

LOG = logging.getLogger("test")
CHANGED = "is another one now than when this was planned"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of this project in a folder of its own, which may be edited."""
    folder = tmp_path / "code" / "graftwork"
    folder.mkdir(parents=True)
    monkeypatch.setattr(digests, "REPOSITORY", folder.parent)
    forget_code()
    file = folder / "drawn.py"
    file.write_text("def draw():\n    return FACTOR\n\n\nFACTOR = 1\n")
    yield file
    monkeypatch.undo()
    forget_code()


def draw_code() -> str:
    return code_digest("graftwork.drawn:draw")


def drawing(store: Store) -> Planned:
    return Planned(store, [UsedCode("drawing", draw_code(), draw_code)])


def test_code_that_is_as_planned(module, store):
    check = drawing(store)
    for _ in range(3):
        check.require()
    module.write_text(module.read_text() + "# a comment\n")
    check.require()


def test_code_that_was_edited_before_the_job(module, store):
    check = drawing(store)
    right = module.read_text()
    module.write_text(right.replace("1", "2"))
    with pytest.raises(ChangedSincePlanning, match=f"the code of drawing {CHANGED}"):
        check.require()
    # What is undone is as planned again; a digest that this process has seen in between does not stick.
    module.write_text(right)
    check.require()


def test_code_that_was_edited_while_the_job_ran(module, store):
    check = drawing(store)
    check.require()
    module.write_text(module.read_text().replace("1", "2"))
    with pytest.raises(ChangedSincePlanning, match=r"written since the job began: graftwork\.drawn"):
        check.require()


@pytest.mark.parametrize("text", ["def draw(:", "", None])
def test_code_that_cannot_be_followed_any_more(module, store, text):
    check = drawing(store)
    module.unlink() if text is None else module.write_text(text)
    with pytest.raises(ChangedSincePlanning, match="the code of drawing"):
        check.require()


def test_a_module_that_was_imported_between_two_edits(module, store, monkeypatch):
    """It was edited and put back: the code on disk is as planned, but what was imported is not."""
    check = drawing(store)
    check.require()
    right = module.read_text()
    module.write_text(right.replace("1", "2"))
    monkeypatch.setitem(sys.modules, "graftwork.drawn", object())
    module.write_text(right)
    with pytest.raises(
        ChangedSincePlanning, match=r"graftwork\.drawn was written and imported while this job ran"
    ):
        check.require()


@pytest.fixture
def encoder(tmp_path):
    folder = tmp_path / "encoder"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        (folder / name).write_text(name)
    return folder


def using(encoder: Path, store: Store) -> Planned:
    entry = {"family": "qwen3", "path": str(encoder)}
    identity = identity_of("encoder", "e", entry, encoder.resolve(), FactCache(store.root / "other.json"))
    return Planned(store, [], [UsedModel("encoder", ModelToLoad("e", entry), identity)])


def test_a_model_that_is_as_planned(encoder, store):
    check = using(encoder, store)
    check.require()
    (encoder / "README.md").write_text("is no part of it")
    check.require()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_model_that_was_exchanged_before_the_job(encoder, store, name):
    check = using(encoder, store)
    (encoder / name).write_text("another")
    with pytest.raises(ChangedSincePlanning, match=rf"encoder 'e' in .* {CHANGED}"):
        check.require()


@pytest.mark.parametrize("way", ["written", "replaced", "same time and size", "gone"])
def test_a_model_that_was_exchanged_while_the_job_ran(encoder, store, way):
    check, file = using(encoder, store), encoder / "model.safetensors"
    check.require()
    status, right = os.stat(file), file.read_text()
    other = encoder / "other"
    other.write_text(right[::-1])
    if way == "written":
        file.write_text("another")
    elif way == "gone":
        file.unlink()
    else:
        os.replace(other, file)
    if way == "same time and size":
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ChangedSincePlanning, match=r"model\.safetensors was written or replaced while"):
        check.require()


# States that another program has written: each input is read from a file of its own

INPUTS = 6


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "ensure_model", ensure_model)
    folder = tmp_path / "written"
    folder.mkdir()
    for number in range(INPUTS):
        write_states(folder / f"{number}.safetensors", number)
    return folder


def write_states(file: Path, number: int, value: float = 1.0) -> None:
    save_file({"layer_3": torch.full((2, 4), value)}, file, {"prompt": f"prompt {number}"})


def exchange(file: Path) -> None:
    """Puts other states of the same input, size and time in the place of a file."""
    status, other = os.stat(file), file.with_name("other")
    write_states(other, int(file.stem), 2.0)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert os.stat(other).st_size == status.st_size
    os.replace(other, file)


def reading(folder: Path, store: Store, numbers: Iterable[int] = range(INPUTS)) -> ExtractionShard:
    entry = {"family": "safetensors", "path": str(folder)}
    identity = identity_of("encoder", "w", entry, folder.resolve(), FactCache(store.root / "other.json"))
    hardware = {"device": "cpu", "dtype": "float32", "cpu_threads": 1}
    made = [
        EncoderInput(
            **hardware,
            encoder=identity,
            prompt=f"prompt {number}",
            reference=None,
            code=extraction_code("safetensors"),
        )
        for number in numbers
    ]
    items = tuple(InputToExtract(record_digest(one), (3,), None, one) for one in made)
    return ExtractionShard(hardware, (EncoderInputs(ModelToLoad("w", entry), items),))


def stored(shard: ExtractionShard, store: Store) -> list[str]:
    """Returns the prompts whose states are stored, all of them those that were planned."""
    files = {one.input.prompt: store.hidden_states(one.key) for one in shard.inputs}
    present = {prompt: read_layer(file, 3).values for prompt, file in files.items() if file.exists()}
    assert all((values == 1.0).all() for values in present.values())
    return sorted(present)


# When the file of an input is exchanged -> the inputs before it.
@pytest.mark.parametrize("when", ["long before it is read", "before it is read", "after it is read"])
@pytest.mark.parametrize("number", [0, 3, INPUTS - 1])
def test_a_file_of_states_that_is_exchanged_while_the_job_runs(folder, store, monkeypatch, when, number):
    shard, real = reading(folder, store), WrittenStates.encode
    turn = 0 if when == "long before it is read" else number

    def encode(self, prompt, *given):
        due = prompt == f"prompt {turn}"
        if due and when != "after it is read":
            exchange(folder / f"{number}.safetensors")
        found = real(self, prompt, *given)
        if due and when == "after it is read":
            exchange(folder / f"{number}.safetensors")
        return found

    monkeypatch.setattr(WrittenStates, "encode", encode)
    with pytest.raises(
        ChangedSincePlanning, match=rf"{number}\.safetensors was written or replaced while this job ran"
    ):
        extract_hidden_states(shard, store, LOG)
    assert stored(shard, store) == [f"prompt {before}" for before in range(number)]


def test_a_file_of_states_that_becomes_unreadable_ends_the_job_too(folder, store, monkeypatch):
    shard, real = reading(folder, store), WrittenStates.encode

    def encode(self, prompt, *given):
        if prompt == "prompt 2":
            (folder / "2.safetensors").unlink()
        return real(self, prompt, *given)

    monkeypatch.setattr(WrittenStates, "encode", encode)
    with pytest.raises(ChangedSincePlanning, match=r"2\.safetensors was written or replaced"):
        extract_hidden_states(shard, store, LOG)
    assert stored(shard, store) == ["prompt 0", "prompt 1"]


def test_a_difference_that_the_writing_thread_finds_ends_the_job(folder, store, monkeypatch):
    shard, real = reading(folder, store), Planned.require
    found = threading.Event()

    def require(self, read=None):
        in_thread = threading.current_thread() is not threading.main_thread()
        if in_thread and list(read) == [folder.resolve() / "2.safetensors"]:
            exchange(folder / "2.safetensors")
        elif list(read or ()) == [folder.resolve() / "4.safetensors"]:
            assert found.wait(60)
        try:
            real(self, read)
        except ChangedSincePlanning:
            # The next that is given to the thread comes after it has noted what it found.
            threading.Timer(0.2, found.set).start()
            raise

    monkeypatch.setattr(Planned, "require", require)
    with pytest.raises(ChangedSincePlanning, match=r"2\.safetensors was written or replaced"):
        extract_hidden_states(shard, store, LOG)
    assert stored(shard, store) == ["prompt 0", "prompt 1", "prompt 3"]


def test_a_header_that_was_read_from_other_bytes_ends_the_job(folder, store, monkeypatch):
    """The headers of all files say which is of which input; they are read when the folder is loaded."""
    shard, real = reading(folder, store, [0]), WrittenStates.load

    def load(*given):
        exchange(folder / "5.safetensors")
        return real(*given)

    monkeypatch.setattr(WrittenStates, "load", load)
    with pytest.raises(ChangedSincePlanning, match=r"5\.safetensors was written or replaced"):
        extract_hidden_states(shard, store, LOG)
    assert stored(shard, store) == []


def test_files_of_states_that_no_input_is_read_from_may_change(folder, store, monkeypatch):
    shard, real = reading(folder, store, [0, 1]), WrittenStates.encode

    def encode(self, prompt, *given):
        exchange(folder / "5.safetensors")
        (folder / "6.safetensors").write_bytes(b"new")
        return real(self, prompt, *given)

    monkeypatch.setattr(WrittenStates, "encode", encode)
    assert len(extract_hidden_states(shard, store, LOG).made) == 2
    assert stored(shard, store) == ["prompt 0", "prompt 1"]


def test_a_folder_of_states_is_looked_through_a_fixed_number_of_times(folder, store, monkeypatch):
    """Not once for each input: with thousands of files that would be millions of looks."""
    looks, lists = [], []
    seen, listed = planned.file_signature, Path.glob
    monkeypatch.setattr(planned, "file_signature", lambda file: looks.append(file) or seen(file))
    monkeypatch.setattr(Path, "glob", lambda self, *given: lists.append(self) or listed(self, *given))
    counts = []
    for numbers in ([0], range(INPUTS)):
        looks.clear(), lists.clear()
        extract_hidden_states(reading(folder, store, numbers), Store(store.root / str(len(numbers))), LOG)
        counts.append((len(looks), len(lists)))
    (one, once), (all_of_them, again) = counts
    assert all_of_them - one == 2 * (INPUTS - 1), "after it is read, and before it is stored"
    assert again <= once


def test_a_reference_that_changed(tmp_path):
    file = tmp_path / "house.png"
    file.write_bytes(b"house")
    sha256 = planned.hashlib.sha256(b"house").hexdigest()
    require_reference(str(file), sha256)
    require_reference("grey:8x8", "grey:8x8")
    require_reference(None, None)
    file.write_bytes(b"tree")
    with pytest.raises(ChangedSincePlanning, match=r"house\.png has changed since this run was planned"):
        require_reference(str(file), sha256)
    file.unlink()
    with pytest.raises(ChangedSincePlanning, match=r"house\.png cannot be read any more"):
        require_reference(str(file), sha256)


@pytest.fixture
def shards(tmp_path):
    """A shard of each kind, as planning freezes it."""
    situation = Situation(tmp_path, experiment({"alpha": [0.0, 0.5]}))
    inputs = situation.plan_conditioning()
    situation.condition()
    images = situation.plan_images()
    folder = situation.store.shards
    conditioning = [read_shard(ConditioningShard, folder, name) for name in inputs.conditioning]
    return situation.store, {
        "extraction": read_shard(ExtractionShard, folder, inputs.extraction[0]),
        "conditioning": next(
            shard for shard in conditioning if any(recipe.stages for recipe in shard.recipes.values())
        ),
        "images": read_shard(ImageShard, folder, images.shards[0]),
    }


@pytest.fixture
def without_models(monkeypatch):
    """The models of these designs lie nowhere: their fingerprints are what was planned."""
    monkeypatch.setattr(planned, "_require_model", lambda used, facts: None)


@pytest.mark.parametrize(
    ("kind", "as_planned"),
    [
        ("extraction", lambda shard, store: extraction_as_planned(shard.parts[0], store)),
        ("conditioning", conditioning_as_planned),
        ("images", images_as_planned),
    ],
)
def test_shards_of_the_present_code_are_as_planned(shards, without_models, kind, as_planned):
    store, made = shards
    as_planned(made[kind], store).require()


JOBS = {
    "extraction": lambda shard, store: extract_hidden_states(shard, store, LOG),
    "conditioning": lambda shard, store: condition(shard, store, LOG, {}),
    "images": lambda shard, store: generate_images(shard, store, LOG),
}
CODE = {
    "extraction": "extraction_code",
    "conditioning": "conditioning_code",
    "images": "sampling_code",
}


@pytest.mark.parametrize("kind", JOBS)
def test_a_job_of_other_code_stores_nothing(shards, without_models, monkeypatch, kind):
    store, made = shards
    before = sorted(store.root.rglob("*"))
    monkeypatch.setattr(planned, CODE[kind], lambda *_: "edited")
    with pytest.raises(ChangedSincePlanning, match="the code of"):
        JOBS[kind](made[kind], store)
    assert [path for path in sorted(store.root.rglob("*")) if path not in before] == []


def test_a_transform_that_was_edited(shards, without_models, monkeypatch):
    store, made = shards
    chosen = planned.transform

    class Edited:
        digest = "edited"

    monkeypatch.setattr(
        planned, "transform", lambda stage, name: Edited if stage == "blend" else chosen(stage, name)
    )
    with pytest.raises(ChangedSincePlanning, match=r"the code of blend '\w+'"):
        condition(made["conditioning"], store, LOG, {})


@pytest.mark.parametrize("kind", ["extraction", "images"])
def test_a_frozen_shard_that_was_edited(shards, without_models, kind):
    store, made = shards
    shard = made[kind]
    if kind == "extraction":
        part, *others = shard.parts
        one, *rest = part.inputs
        other = replace(one, input=replace(one.input, prompt="other"))
        edited = replace(shard, parts=(replace(part, inputs=(other, *rest)), *others))
    else:
        one = shard.images[0]
        edited = replace(shard, images=(replace(one, parts=replace(one.parts, seed=7)), *shard.images[1:]))
    with pytest.raises(ChangedSincePlanning, match="the frozen shard says other things"):
        JOBS[kind](edited, store)


def test_statistics_of_other_code_are_not_measured(tmp_path, monkeypatch):
    (tmp_path / "config/corpora").mkdir(parents=True)
    (tmp_path / "config/corpora/world.yaml").write_text("prompts: [a hat, a red apple]\n")
    taken = {"normalization": "whiten", "statistics": {"corpus": "world"}}
    situation = Situation(tmp_path, experiment({"alpha": [0.5]}, taken))
    names = situation.plan_conditioning().statistics
    shard = read_shard(StatisticsShard, situation.store.shards, names[0])
    statistics_as_planned(shard, situation.store).require()
    monkeypatch.setattr(planned, "statistics_code", lambda: "edited")
    with pytest.raises(ChangedSincePlanning, match="the code of statistics"):
        measure_statistics(shard, situation.store, LOG, {})
    assert not (situation.store.root / "statistics").exists()


def test_what_is_no_artefact_is_compared_too(module):
    code = draw_code()
    require_code("grids", code, draw_code)
    require_inputs("all", code, draw_code)
    module.write_text(module.read_text().replace("1", "2"))
    with pytest.raises(ChangedSincePlanning, match="the code of grids is another one now than when this run"):
        require_code("grids", code, draw_code)
    with pytest.raises(ChangedSincePlanning, match=r"^all: experiments, models, settings or code changed"):
        require_inputs("all", code, draw_code)


def test_a_job_ends_with_the_sentence_alone():
    with pytest.raises(SystemExit, match=r"^graftwork: why$"), ending_in_words(LOG):
        raise ChangedSincePlanning("why")


@pytest.mark.parametrize("is_of_code", [True, False])
def test_a_job_of_maps_compares_code_and_names(tmp_path, is_of_code):
    parts = MapParts(
        ("s",), (0,), ("t",), 0, "rms", "ridge", {}, "another" if is_of_code else map_code("ridge")
    )
    key = record_digest(parts) if is_of_code else "0" * 32
    shard = MapShard((MapToFit(key, parts, "corpus", "s", "t"),), {})
    said = "code of maps by 'ridge' is another one" if is_of_code else "says other things"
    with pytest.raises(ChangedSincePlanning, match=said):
        fit_maps(shard, Store(tmp_path), logging.getLogger("test"), {})
