"""Names in the models file that stand for the same weights are noticed, and nothing else is."""

import hashlib
import shutil
from pathlib import Path

import pytest

from graftwork.models.catalog import ModelCatalog, same_weights
from tests.small_family import small_entries

FILE = "config/models.yaml"
REVISION = "0123456789abcdef0123456789abcdef01234567"


def notes(entries, tmp_path, kind="encoder"):
    catalog = ModelCatalog({"encoders": {}, "generators": {}, f"{kind}s": entries}, FILE, tmp_path / "facts")
    return same_weights([catalog.get(kind, name, "here") for name in entries], FILE)


@pytest.fixture
def encoders(family):
    return small_entries(family)["encoders"]


def test_different_models_are_not_reported(encoders, tmp_path):
    assert notes(encoders, tmp_path) == []


def test_one_folder_under_two_names_is_one_model(encoders, tmp_path):
    entry = encoders["qwen3-vl-instruct"]
    linked = tmp_path / "linked"
    linked.symlink_to(entry["path"])
    for other in (entry, {**entry, "path": str(linked)}):
        (line,) = notes({"one": entry, "other": other}, tmp_path)
        assert line.startswith(f"encoders 'one' and 'other' of {FILE} are the same model")


def test_one_name_is_not_reported_against_itself(encoders, tmp_path):
    catalog = ModelCatalog({"encoders": encoders, "generators": {}}, FILE, tmp_path / "facts")
    model = catalog.get("encoder", "qwen3", "here")
    assert same_weights([model, model], FILE) == []


def test_the_same_weights_beside_another_template_are_reported(encoders, tmp_path):
    entry = encoders["qwen3-vl-instruct"]
    copy = Path(shutil.copytree(entry["path"], tmp_path / "copy"))
    template = copy / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    (line,) = notes({"one": entry, "other": {**entry, "path": str(copy)}}, tmp_path)
    assert "'one' and 'other'" in line
    assert "have the same weights" in line


def test_a_changed_weight_is_another_model(encoders, tmp_path):
    entry = encoders["qwen3-embedding"]
    copy = Path(shutil.copytree(entry["path"], tmp_path / "copy"))
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert notes({"one": entry, "other": {**entry, "path": str(copy)}}, tmp_path) == []


@pytest.fixture
def snapshot(encoders, tmp_path, monkeypatch):
    """A hub cache that holds the embedding model as the hub's client lays it out."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    repo = tmp_path / "hub" / "models--org--name"
    folder = repo / "snapshots" / REVISION
    folder.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for file in Path(encoders["qwen3-embedding"]["path"]).iterdir():
        large = file.suffix == ".safetensors"
        name = (
            hashlib.sha256(file.read_bytes()).hexdigest()
            if large
            else hashlib.sha1(file.read_bytes()).hexdigest()
        )
        shutil.copy(file, repo / "blobs" / name)
        (folder / file.name).symlink_to(Path("../../blobs") / name)
    return folder


def test_a_hub_model_and_its_copy_are_reported(encoders, snapshot, tmp_path):
    hub = {"family": "qwen3", "repo": "org/name", "revision": REVISION}
    (line,) = notes({"one": hub, "other": encoders["qwen3-embedding"]}, tmp_path)
    assert "have the same weights" in line
    # Remembered, where the hub's cache has gone since.
    catalog = ModelCatalog({"encoders": {"one": hub}, "generators": {}}, FILE, tmp_path / "facts")
    known = catalog.get("encoder", "one", "here")
    catalog.save()
    shutil.rmtree(tmp_path / "hub")
    catalog = ModelCatalog({"encoders": {"one": hub}, "generators": {}}, FILE, tmp_path / "facts")
    assert catalog.get("encoder", "one", "here").weights == known.weights is not None


def test_what_another_version_remembered_of_a_model_is_read_again(encoders, tmp_path):
    entries = {"encoders": {"one": encoders["qwen3-embedding"]}, "generators": {}}
    catalog = ModelCatalog(entries, FILE, tmp_path / "facts")
    known = catalog.get("encoder", "one", "here")
    catalog.save()
    file = tmp_path / "facts" / "models.json"
    file.write_text(file.read_text().replace('"hidden_size"', '"width"'))
    assert ModelCatalog(entries, FILE, tmp_path / "facts").get("encoder", "one", "here") == known


def test_a_hub_cache_without_links_says_nothing(encoders, snapshot, tmp_path):
    weights = snapshot / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content)
    hub = {"family": "qwen3", "repo": "org/name", "revision": REVISION}
    assert notes({"one": hub, "other": encoders["qwen3-embedding"]}, tmp_path) == []


def test_generators_are_compared_with_generators(family, tmp_path):
    entry = small_entries(family)["generators"]["z-image"]
    (line,) = notes({"one": entry, "other": {**entry, "text_encoder": "another"}}, tmp_path, "generator")
    assert line.startswith("generators 'one' and 'other'")
