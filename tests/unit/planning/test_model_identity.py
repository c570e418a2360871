"""The identity of models and reference images: every byte that decides an output is in it, and nothing else."""

import os
import shutil
from pathlib import Path

import pytest

from graftwork.core.fact_cache import FactCache
from graftwork.design.inputs import find_reference
from graftwork.models.catalog import ModelCatalog
from graftwork.models.description import model_files

REPOSITORY = Path(__file__).resolve().parents[3]
TEXT = {"family": "qwen3", "subfolder": "text_encoder", "tokenizer_subfolder": "tokenizer"}
VISION = {"family": "qwen3_vl"}
IMAGE = {"family": "z_image", "text_encoder": "text"}
ENTRIES = {
    "text": ("encoder", TEXT, "z-image"),
    "vision": ("encoder", VISION, "qwen3-vl-instruct"),
    "image": ("generator", IMAGE, "z-image"),
}
# Files of the small models that decide what each gives.
FILES = {
    "text": {
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/chat_template.jinja",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    },
    "vision": {
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    },
    "image": {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    },
}


def identity(which: str, folder: Path, tmp_path: Path, name: str = "some-name") -> str:
    kind, entry, _ = ENTRIES[which]
    entries = {"encoders": {}, "generators": {}, f"{kind}s": {name: {**entry, "path": str(folder)}}}
    # A cache of its own: nothing remembered.
    caches = tmp_path / f"facts{len(list(tmp_path.iterdir()))}"
    caches.mkdir()
    return ModelCatalog(entries, "config/models.yaml", caches).get(kind, name, "here").identity


def change_a_byte(path: Path) -> None:
    """Changes one byte so that JSON stays JSON and weights keep their header."""
    data = bytearray(path.read_bytes())
    if path.suffix == ".safetensors":
        data[-1] ^= 1
    elif path.suffix == ".jinja":
        data += b" "
    else:
        # White space first: what a file means can stay the same, and the identity is of its bytes.
        place = data.index(b"\n")
        data[place : place + 1] = b" "
    path.write_bytes(data)


@pytest.fixture(params=ENTRIES)
def which(request) -> str:
    return request.param


@pytest.fixture
def copied(family, tmp_path, which) -> Path:
    return Path(shutil.copytree(family / ENTRIES[which][2], tmp_path / "model"))


def test_the_files_that_count(family, which):
    kind, entry, folder = ENTRIES[which]
    assert {path.as_posix() for path in model_files(entry, kind, family / folder)} == FILES[which]


@pytest.mark.parametrize(("which", "file"), [(name, file) for name in FILES for file in sorted(FILES[name])])
def test_every_byte_counts(copied, which, file, tmp_path):
    before = identity(which, copied, tmp_path)
    change_a_byte(copied / file)
    assert identity(which, copied, tmp_path) != before


def test_a_setting_of_the_scheduler_counts(family, tmp_path):
    folder = Path(shutil.copytree(family / "z-image", tmp_path / "model"))
    before = identity("image", folder, tmp_path)
    file = folder / "scheduler" / "scheduler_config.json"
    text = file.read_text()
    assert '"shift": 3.0' in text
    file.write_text(text.replace('"shift": 3.0', '"shift": 4.0'))
    assert identity("image", folder, tmp_path) != before


def test_other_files_do_not_count(copied, which, tmp_path):
    before = identity(which, copied, tmp_path)
    (copied / "README.md").write_text("words")
    (copied / "generation_config.json").write_text("{}")
    for file in copied.rglob("*"):
        os.utime(file, (1, 1))
    assert identity(which, copied, tmp_path) == before


def test_a_text_encoder_beside_it_does_not_count_for_a_generator(family, tmp_path):
    folder = Path(shutil.copytree(family / "z-image", tmp_path / "model"))
    before = identity("image", folder, tmp_path)
    change_a_byte(folder / "text_encoder" / "model.safetensors")
    change_a_byte(folder / "tokenizer" / "tokenizer.json")
    assert identity("image", folder, tmp_path) == before


def test_names_and_places_do_not_count(copied, which, tmp_path):
    before = identity(which, copied, tmp_path)
    moved = copied.rename(tmp_path / "moved")
    assert identity(which, moved, tmp_path, name="another-name") == before


def test_a_remembered_identity_follows_the_file(copied, which, tmp_path):
    """The cache goes by size and time; the same catalogue folder is used for both."""
    kind, entry, _ = ENTRIES[which]
    entries = {"encoders": {}, "generators": {}, f"{kind}s": {"m": {**entry, "path": str(copied)}}}
    seen = []
    for _ in range(2):
        catalog = ModelCatalog(entries, "config/models.yaml", tmp_path / "facts")
        seen.append(catalog.get(kind, "m", "here").identity)
        catalog.save()
        change_a_byte(copied / sorted(FILES[which])[0])
    catalog = ModelCatalog(entries, "config/models.yaml", tmp_path / "facts")
    seen.append(catalog.get(kind, "m", "here").identity)
    assert len(set(seen)) == 3


def hub_identity(family: Path, tmp_path: Path, monkeypatch, repo: str, revision: str, **more: str) -> str:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub" / f"models--{repo.replace('/', '--')}" / "snapshots" / revision
    if not snapshot.exists():
        shutil.copytree(family / "z-image", snapshot)
        shutil.copytree(snapshot / "tokenizer", snapshot / "tokenizer_2")
        shutil.copytree(snapshot / "text_encoder", snapshot / "text_encoder_2")
    entry = {**TEXT, "repo": repo, "revision": revision, **more}
    caches = tmp_path / f"facts{len(list(tmp_path.iterdir()))}"
    caches.mkdir()
    catalog = ModelCatalog({"encoders": {"m": entry}, "generators": {}}, "config/models.yaml", caches)
    return catalog.get("encoder", "m", "here").identity


def test_a_hub_model_is_its_repository_and_commit(family, tmp_path, monkeypatch):
    first, second = "a" * 40, "b" * 40
    names = [
        hub_identity(family, tmp_path, monkeypatch, "org/model", first),
        hub_identity(family, tmp_path, monkeypatch, "org/model", second),
        hub_identity(family, tmp_path, monkeypatch, "org/other", first),
        hub_identity(family, tmp_path, monkeypatch, "org/model", first, subfolder="text_encoder_2"),
    ]
    assert names[0] == f"org/model@{first}?subfolder=text_encoder&tokenizer_subfolder=tokenizer"
    assert len(set(names)) == len(names)


def test_the_tokenizer_of_a_hub_model_counts(family, tmp_path, monkeypatch):
    one = hub_identity(family, tmp_path, monkeypatch, "org/model", "a" * 40)
    other = hub_identity(
        family, tmp_path, monkeypatch, "org/model", "a" * 40, tokenizer_subfolder="tokenizer_2"
    )
    assert one != other


@pytest.fixture
def reference(tmp_path) -> Path:
    folder = tmp_path / "config" / "references"
    folder.mkdir(parents=True)
    return Path(shutil.copy(REPOSITORY / "resources/references/cartoon_house.png", folder / "house.png"))


def test_every_byte_of_a_reference_counts(reference, tmp_path):
    def sha256(name: str) -> str:
        return find_reference(name, tmp_path, FactCache(tmp_path / "facts.json"), "here").sha256

    before = sha256("house")
    data = reference.read_bytes()
    # A byte after the image: the pixels are the same, the file is not.
    reference.write_bytes(data + b"\0")
    assert sha256("house") != before
    reference.write_bytes(data)
    assert sha256("house") == before
    reference.rename(reference.with_name("home.png"))
    assert sha256("home") == before
