"""Settings that make images faster make other images, and leave those that exist alone."""

from tests.workflow.harness import Workspace

TABLE = "results/small/cells.csv"
SETTINGS = {"fuse_blocks": True, "vae_slicing": True, "attention_backend": "_native_math"}


def test_settings_make_new_images_and_their_absence_finds_the_old_ones(built: Workspace) -> None:
    plain = built.stored("images/**/*.png")
    built.config["hardware"]["generation"].update(SETTINGS)
    built.save()
    run = built.run(TABLE)
    assert run.returncode == 0, run.output
    assert run.made["images"] == len(plain)
    # The conditioning is what it was; it was dropped when its images existed, and is built again from hidden states.
    assert "text" not in run.made
    assert {row["status"] for row in built.rows()} == {"done"}
    both = built.stored("images/**/*.png")
    assert len(both) == 2 * len(plain)
    assert plain.items() <= both.items()
    for name in SETTINGS:
        del built.config["hardware"]["generation"][name]
    built.save()
    run = built.run(TABLE)
    assert run.returncode == 0, run.output
    assert "images" not in run.made
    assert "generator" not in run.made
    assert built.stored("images/**/*.png") == both


def test_a_combination_that_cannot_work_is_refused_before_anything_runs(fresh: Workspace) -> None:
    fresh.config["hardware"]["generation"]["attention_backend"] = "_native_cudnn"
    fresh.save()
    run = fresh.run()
    assert run.returncode != 0
    assert (
        "config/config.yaml: hardware.generation.attention_backend: _native_cudnn needs device cuda"
        in run.output
    )
    assert not (fresh.folder / "results/plan").exists()
