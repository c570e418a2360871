"""`snakemake accept`: images of earlier sampling code are adopted if, and only if, a sample renders to equal bytes."""

import pytest

from tests.workflow.harness import Workspace

pytestmark = pytest.mark.slow

SAMPLING = "graftwork/models/generators/z_image/generator.py"
NOISE = "graftwork/models/generator.py"


def test_images_are_adopted_when_a_sample_is_equal(built: Workspace) -> None:
    before = built.stored("images/*/*.png")
    old = (
        "        vae, device, dtype = pipeline.vae, pipeline._execution_device, pipeline.transformer.dtype\n"
    )
    new = "        vae, dtype = pipeline.vae, pipeline.transformer.dtype\n        device = pipeline._execution_device\n"
    built.edit(SAMPLING, old, new)
    built.config["accept_samples"] = 2
    built.save()

    accepted = built.run("accept")
    assert accepted.returncode == 0, accepted.output
    assert "2 sampled images are equal; 4 images adopted" in accepted.output
    assert accepted.loads["ZImageTransformer2DModel"] == 1

    run = built.run()
    assert run.returncode == 0, run.output
    assert not run.loads
    rows = built.rows()
    assert {row["status"] for row in rows} == {"done"}
    named = {row["image"] for row in rows}
    assert not named & {f"results/store/images/{name[:2]}/{name}" for name in before}
    assert sorted({(built.folder / name).read_bytes() for name in named}) == sorted(before.values())
    assert not (built.folder / "results" / "store" / "trial").exists()


def test_nothing_is_adopted_when_an_image_differs(built: Workspace) -> None:
    before = built.stored("images/*/*.png")
    built.edit(NOISE, "    return torch.stack(rows)\n", "    return torch.stack(rows) * 0.99\n")

    accepted = built.run("accept")
    assert accepted.returncode == 1
    assert "nothing was adopted" in accepted.output
    assert built.stored("images/*/*.png") == before
