"""Models of the hub, offline: a cache and a server made of small models under the real names and commits."""

import fcntl
import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import yaml

from graftwork.core.errors import DesignError
from graftwork.design import hardware
from graftwork.design.project import Project
from graftwork.jobs import models as jobs
from graftwork.jobs.models import check_models, download_models
from graftwork.models import hub as hubs
from graftwork.models.cards import Card
from graftwork.models.catalog import AbsentModel
from graftwork.models.description import locate_model
from graftwork.models.loading import load_encoder
from tests.fake_hub import QWEN3_VL, Z_IMAGE, lay_out_cache, published_folders, serve
from tests.small_family import build_small_family

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENT = {
    "base": {
        "prompts": ["a red apple"],
        "references": ["cartoon_house"],
        "encoder": "vl",
        "height": 256,
        "width": 256,
    },
    "axes": {"alpha": [0.5, 1.0]},
}
VL_ENTRY = {"family": "qwen3_vl", "repo": QWEN3_VL[0], "revision": QWEN3_VL[1]}
H100 = Card("NVIDIA H100 80GB HBM3", 81559 * 2**20, "580.159")


@pytest.fixture(scope="module")
def repositories(tmp_path_factory, family):
    return published_folders(family, tmp_path_factory.mktemp("published"))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    # Nothing listens there: whoever asks the hub is refused at once.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv(hardware.CHOSEN, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def served(repositories, cache, monkeypatch):
    with serve(repositories) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def project(tmp_path, cache):
    """A function that reads a configuration with the real models anew."""
    root = tmp_path / "root"
    (root / "config/experiments").mkdir(parents=True)
    shutil.copy2(ROOT / "config/models.yaml", root / "config")
    (root / "resources").mkdir()
    (root / "resources/references").symlink_to(ROOT / "resources/references")
    (root / "config/experiments/look.yaml").write_text(yaml.safe_dump(EXPERIMENT))

    def read(**settings) -> Project:
        return Project({"experiments": ["look"], "family": "published", **settings}, root)

    return read


def fill(cache: Path, repositories, *repos: str) -> dict[str, Path]:
    return {repo: lay_out_cache(cache, repo, *repositories[repo]) for repo in repos or repositories}


def said(check) -> str:
    return "\n".join([*check.lines, *check.problems])


def test_what_is_needed_follows_from_the_files_alone(project):
    needed = project().needed_models()
    assert [(model.kind, model.name) for model in needed.models] == [
        ("encoder", "qwen3-4b"),
        ("encoder", "qwen3-vl-4b-instruct"),
        ("generator", "z-image-turbo"),
    ]
    assert needed.sizes == ((256, 256),)


def test_needs_of_axes_settings_statistics_and_analyses(project):
    root = project().root
    experiment = {
        "base": {"prompts": ["a"], "encoder": "vl", "statistics": {"corpus": "c", "encoder": "embedding"}},
        "axes": {"encoder": ["vl-thinking"]},
        "settings": {"small": {"width": 512}, "plain": {}},
    }
    (root / "config/experiments/look.yaml").write_text(yaml.safe_dump(experiment))
    (root / "config/statistics").mkdir()
    (root / "config/statistics/own.yaml").write_text(
        "corpus: c\nencoders: [{encoder: miniature-qwen3, hidden_layers: [-2]}]\n"
    )
    needed = project(statistics=["own"]).needed_models()
    assert {model.name for model in needed.models} == {
        "z-image-turbo",
        "qwen3-4b",
        "qwen3-vl-4b-thinking",
        "qwen3-embedding-4b",
        "miniature-qwen3",
    }, "an axis takes the place of the base"
    assert set(needed.sizes) == {(1024, 1024), (512, 1024)}
    (root / "config/experiments/look.yaml").write_text(
        yaml.safe_dump({"base": {"prompts": ["a"], "encoder": "qwen9"}})
    )
    with pytest.raises(DesignError, match=r"experiments/look.yaml: encoder 'qwen9' is not known"):
        project().needed_models()


def test_nothing_is_here_and_the_hub_is_silent(project):
    check = check_models(project())
    assert {source.repo for source in check.missing} == {Z_IMAGE[0], QWEN3_VL[0]}
    text = said(check)
    assert text.count("size not known, for the hub gave no answer") == 2
    assert "target `download_models`" in text
    assert f"hf download {QWEN3_VL[0]} --revision {QWEN3_VL[1]} --include" in text
    with pytest.raises(AbsentModel, match="target `download_models`"):
        project().design("look")


def test_sizes_and_licences_are_said_before_anything_is_downloaded(project, served, repositories, cache):
    check = check_models(project())
    text = said(check)
    assert text.count("licence apache-2.0") == 2
    assert "to download" in text
    assert not cache.exists(), "checking downloads nothing"
    assert not served.sent(".safetensors")


def test_download_fetches_what_is_needed_and_no_more(project, served, cache, caplog):
    lines: list[str] = []
    with caplog.at_level(logging.INFO, logger="graftwork"):
        download_models(project(), lines.append)
    assert lines[2].startswith("downloading ")
    assert " free" in lines[2]
    assert "MB downloaded" in caplog.text
    assert not list(cache.rglob("pytorch_model.bin"))
    check = check_models(project())
    assert not check.problems
    assert said(check).count("licence apache-2.0") == 3
    assert said(check).count("complete") == 3
    # What came is what the server has, byte for byte, and can be used.
    snapshot = locate_model("vl", VL_ENTRY)
    for file in snapshot.rglob("*"):
        if file.is_file():
            original = served.repositories[QWEN3_VL[0]][1] / file.relative_to(snapshot)
            assert file.read_bytes() == original.read_bytes()
    assert len(project().design("look").cells) == 3
    before = len(served.requests)
    download_models(project(), lines.append)
    assert lines[-1] == "the 3 models that are needed are here, nothing to download"
    assert len(served.requests) == before


@pytest.fixture
def interrupted(served, monkeypatch):
    """The weights of one model came by half; returns their path on the server."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr(hubs, "LARGE_BYTES", 100_000)
    (source,) = hubs.hub_sources([("encoder", "vl", VL_ENTRY)])
    weights = served.repositories[QWEN3_VL[0]][1] / "model.safetensors"
    came = 0

    def interrupt(number: int) -> None:
        nonlocal came
        came += number
        if came > weights.stat().st_size // 2:
            raise OSError("the network is gone")

    with pytest.raises(RuntimeError, match="the network is gone; what came is kept"):
        hubs.download(source, hubs.list_files(source), interrupt)
    return weights


def begun(cache: Path) -> Path:
    (path,) = cache.rglob("*.begun")
    return path


def test_an_interrupted_download_continues_where_it_was(project, served, cache, interrupted):
    size, kept = interrupted.stat().st_size, begun(cache).stat().st_size
    assert 0.3 * size < kept < 0.7 * size
    check = check_models(project())
    assert QWEN3_VL[0] in {one.repo for one in check.missing}
    with pytest.raises(AbsentModel, match="download_models"):
        project().design("look")
    download_models(project(), lambda line: None)
    path = f"/{QWEN3_VL[0]}/resolve/{QWEN3_VL[1]}/model.safetensors"
    assert [one.range for one in served.sent("model.safetensors") if one.path == path] == [
        None,
        f"bytes={kept}-",
    ]
    assert (locate_model("vl", VL_ENTRY) / "model.safetensors").read_bytes() == interrupted.read_bytes()
    assert not list(cache.rglob("*.begun"))
    assert not check_models(project()).problems


def test_what_was_begun_and_is_damaged_is_noticed_and_begun_again(project, cache, interrupted):
    damaged = bytearray(begun(cache).read_bytes())
    damaged[1000] ^= 1
    begun(cache).write_bytes(damaged)
    with pytest.raises(RuntimeError, match="came with SHA-256"):
        download_models(project(), lambda line: None)
    download_models(project(), lambda line: None)
    assert (locate_model("vl", VL_ENTRY) / "model.safetensors").read_bytes() == interrupted.read_bytes()


def test_two_processes_do_not_write_one_file(project, cache, interrupted):
    with open(begun(cache), "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RuntimeError, match=r"another process downloads model\.safetensors"):
            download_models(project(), lambda line: None)


def test_a_cache_that_is_complete_is_used_without_the_hub(project, repositories, cache):
    fill(cache, repositories)
    assert not check_models(project()).problems
    model = project().models.get("encoder", "qwen3-vl-4b-instruct", "a test")
    assert model.identity == f"{QWEN3_VL[0]}@{QWEN3_VL[1]}"
    assert model.weights is not None, "links to large files are named by their SHA-256"
    assert project().models.get("encoder", "qwen3-4b", "a test").identity == (
        f"{Z_IMAGE[0]}@{Z_IMAGE[1]}?subfolder=text_encoder&tokenizer_subfolder=tokenizer"
    )


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json", "preprocessor_config.json"])
def test_a_missing_file_is_named_with_the_command(lost, project, repositories, cache):
    snapshot = fill(cache, repositories)[QWEN3_VL[0]]
    # A link whose blob is gone is no file: huggingface_hub leaves such links where a blob is deleted by hand.
    (snapshot / lost).resolve().unlink()
    text = said(check_models(project()))
    assert lost.replace("model.", "*.") in text or lost in text
    assert "target `download_models`" in text
    with pytest.raises(AbsentModel, match="lacks"):
        project().design("look")


def test_a_shard_that_the_index_names_is_missed(project, repositories, cache, tmp_path):
    folder = tmp_path / "sharded"
    shutil.copytree(repositories[Z_IMAGE[0]][1], folder)
    index = {"weight_map": {"a": "diffusion_pytorch_model.safetensors", "b": "diffusion-00002.safetensors"}}
    own = folder / "transformer/diffusion_pytorch_model.safetensors.index.json"
    own.write_text(json.dumps(index))
    lay_out_cache(cache, *Z_IMAGE, folder)
    fill(cache, repositories, QWEN3_VL[0])
    check = check_models(project())
    assert "transformer/diffusion-00002.safetensors" in said(check)
    assert [source.repo for source in check.missing] == [Z_IMAGE[0]]


def test_another_commit_in_the_cache_is_named_and_not_used(project, repositories, cache):
    fill(cache, repositories, Z_IMAGE[0])
    other = "1" * 40
    lay_out_cache(cache, QWEN3_VL[0], other, repositories[QWEN3_VL[0]][1])
    check = check_models(project())
    assert f"{QWEN3_VL[0]} at {QWEN3_VL[1]} (the cache has {other})" in said(check)
    with pytest.raises(AbsentModel, match=f"at commit {QWEN3_VL[1]} .it has {other}"):
        project().design("look")


def test_a_commit_that_the_hub_does_not_have_is_an_error(project, served, repositories):
    served.repositories = {**repositories, QWEN3_VL[0]: ("2" * 40, repositories[QWEN3_VL[0]][1])}
    with pytest.raises(RuntimeError, match="RevisionNotFound"):
        download_models(project(), lambda line: None)


def test_a_cache_that_cannot_be_written_is_read_and_never_written(project, repositories, cache, tmp_path):
    fill(cache, repositories)
    folders = [cache, *(path for path in cache.rglob("*") if path.is_dir())]
    before = {path: (path.stat().st_mtime_ns, sorted(os.listdir(path))) for path in folders}
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert not check_models(project()).problems
        assert len(project().design("look").cells) == 3
        encoder = load_encoder("vl", VL_ENTRY, [1], {"device": "cpu", "dtype": "float32"})
        assert encoder.encode("a red apple", None, None, [1]).hidden_states[1].shape[1] == 64
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert {path: (path.stat().st_mtime_ns, sorted(os.listdir(path))) for path in folders} == before


def test_a_disk_that_is_too_small_is_said_before_anything_is_downloaded(project, served, cache, monkeypatch):
    monkeypatch.setattr(jobs, "_free_bytes", lambda folder: 1000)
    assert "make room, or set HF_HUB_CACHE" in said(check_models(project()))
    with pytest.raises(RuntimeError, match=r"do not fit into the 1\.0 kB"):
        download_models(project(), lambda line: None)
    assert not served.sent(".safetensors")


def test_widths_that_do_not_fit_are_named(project, repositories, cache, tmp_path):
    build_small_family(tmp_path / "wide", hidden_size=32, head_dim=8)
    fill(cache, repositories, Z_IMAGE[0])
    lay_out_cache(cache, *QWEN3_VL, tmp_path / "wide/qwen3-vl-instruct")
    text = said(check_models(project()))
    assert (
        "encoder qwen3-vl-4b-instruct has hidden states of width 32, but generator z-image-turbo takes 64"
        in text
    )


def test_a_model_of_another_class_is_named(project, repositories, cache):
    fill(cache, repositories, Z_IMAGE[0])
    lay_out_cache(cache, *QWEN3_VL, repositories[Z_IMAGE[0]][1] / "text_encoder")
    lay_out_cache(cache, *QWEN3_VL, repositories[Z_IMAGE[0]][1] / "tokenizer")
    shutil.copy2(repositories[QWEN3_VL[0]][1] / "preprocessor_config.json", locate_model("vl", VL_ENTRY))
    text = said(check_models(project()))
    assert "model_type 'qwen3', not 'qwen3_vl'" in text


def with_card(monkeypatch, card: Card | None) -> None:
    for module in (jobs, hardware):
        monkeypatch.setattr(module, "find_cards", lambda: [card] if card else [])
        monkeypatch.setattr(module, "cuda_of_torch", lambda: "13.0")


def test_memory_and_driver_of_the_card(project, repositories, cache, monkeypatch):
    fill(cache, repositories)
    with_card(monkeypatch, H100)
    check = check_models(project(hardware={"preset": "auto"}))
    assert not check.problems
    assert "z-image-turbo with 4 rows of 256 x 256 pixels takes about" in said(check)
    with_card(monkeypatch, Card("small", 2**30, "550.54"))
    text = said(check_models(project(hardware={"preset": "cuda_80gb", "generation": {"batch_shape": 64}})))
    assert "driver 550.54 of small is older than 580" in text
    assert "more than small has" in text
    assert "set hardware.generation.batch_shape to " in text
    with_card(monkeypatch, None)
    assert "no card is found" in said(check_models(project(hardware={"preset": "cuda_16gb"})))
