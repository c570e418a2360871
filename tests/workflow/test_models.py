"""The way in to published models: from nothing to images, with a hub on this machine in place of the real one."""

import shutil

import pytest

from tests.fake_hub import QWEN3_VL, published_folders, serve
from tests.workflow.harness import REPOSITORY

pytestmark = pytest.mark.slow


def test_from_an_empty_cache_to_images(fresh, small_models, tmp_path):
    shutil.copy2(REPOSITORY / "config/models.yaml", fresh.folder / "config")
    shutil.copytree(REPOSITORY / "config/hardware", fresh.folder / "config/hardware")
    fresh.config = {"experiments": ["small"], "family": "published", "hardware": {"preset": "auto"}}
    fresh.experiment["base"]["encoder"] = "vl"
    fresh.experiment["base"]["prompts"] = ["a red apple"]
    fresh.save()
    repositories = published_folders(small_models, tmp_path / "published")
    offline = {
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "PATH": "/bin:/usr/bin",
    }
    offline["PATH"] = f"{fresh.folder / 'bin'}:{offline['PATH']}"

    # Nothing is there: a dry run and a check say what to do, and neither downloads anything.
    dry = fresh.run("-n", variables=offline)
    assert dry.returncode != 0
    assert "target `download_models`" in dry.output
    assert "Traceback" not in dry.output
    check = fresh.run("check_models", variables=offline)
    assert check.returncode == 1
    assert f"hf download {QWEN3_VL[0]} --revision {QWEN3_VL[1]}" in check.output

    with serve(repositories) as hub:
        online = {**offline, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
        load = fresh.run("download_models", variables=online)
        assert load.returncode == 0, load.output
        assert "graftwork: downloading " in load.output
    assert not list((tmp_path / "cache").rglob("pytorch_model.bin"))

    # From here on there is no network.
    check = fresh.run("check_models", variables=offline)
    assert check.returncode == 0, check.output
    assert check.output.count("licence apache-2.0") == 3
    run = fresh.run(variables=offline)
    assert run.returncode == 0, run.output
    assert "graftwork: hardware cpu (config/hardware/cpu.yaml)" in run.output
    assert run.made["images"] == 2
    assert {row["status"] for row in fresh.rows()} == {"done"}
    again = fresh.run(variables=offline)
    assert not again.jobs, "what was downloaded is what was planned with"
    exported = fresh.run("export_states", variables=offline)
    assert exported.returncode == 0, exported.output
    assert {row["encoder"] for row in fresh.table("states/index")} == {"qwen3-4b", "qwen3-vl-4b-instruct"}
    assert not any(row["error"] for row in fresh.table("states/index"))
