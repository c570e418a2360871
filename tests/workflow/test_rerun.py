"""A rerun makes only what is missing: counts of wrapped `from_pretrained` and `forward`, through the command line."""

from tests.workflow.harness import Workspace


def test_nothing_changes_nothing_even_without_models(built: Workspace) -> None:
    (built.folder / "results" / "models").rename(built.folder / "away")
    run = built.run()
    assert run.returncode == 0, run.output
    assert "Nothing to be done" in run.output
    assert not run.loads
    assert run.replaced(".png") == run.replaced(".csv") == run.replaced(".h5") == 0


def test_first_run_counts(fresh: Workspace) -> None:
    run = fresh.run()
    assert run.returncode == 0, run.output
    print(run.events)
    assert run.loads == {"TruncatedQwen3Model": 1, "TruncatedQwen3VLModel": 1, "ZImageTransformer2DModel": 1, "AutoencoderKL": 1}
    # 2 prompts x (text alone, alpha 0.5); alpha 0 is the text alone. Batches of 2, 2 steps.
    assert run.replaced(".h5") == 4
    assert run.forwards["Qwen3VLVisionModel"] == 1
    assert run.forwards["Qwen3Model"] == run.forwards["Qwen3VLModel"] == 2
    assert len(fresh.stored("images/*/*.png")) == 4
    assert run.forwards["ZImageTransformer2DModel"] == 2 * 2
