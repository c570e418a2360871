"""Schedules, guidance and images to start from, through the command line: killed, resumed, run again, accepted."""

import pytest

from tests.workflow.harness import Workspace
from tests.workflow.test_kill import unlock, wait_for_the_end

pytestmark = pytest.mark.slow

FALLING = {"kind": "linear"}
RISING = {"kind": "linear", "maximum": 0.0, "minimum": 1.0}


def test_sampling_options_from_cells_to_images(built: Workspace) -> None:
    built.experiment["base"].update(
        prompts=["a red apple"], num_inference_steps=4, negative_prompt="a blue boat at sea", strength=0.5
    )
    built.experiment["axes"] = {
        "alpha_schedule": [None, FALLING, RISING],
        "init_image": [None, "reference"],
        "guidance_scale": [0.0, 2.0],
    }
    built.experiment["grids"] = [{"x": "alpha_schedule", "y": "init_image"}]
    built.save()
    assert built.run(kill="after-replace-images:5").returncode != 0
    wait_for_the_end(built)
    unlock(built)
    before = built.stored("images/*/*.png")

    run = built.run()
    assert run.returncode == 0, run.output
    rows = built.rows()
    assert {row["status"] for row in rows} == {"done"}
    assert [row["role"] for row in rows] == ["baseline"] * 4 + ["cell"] * 12
    # The four images of the experiment that was there before are others; at least the five that were made stayed.
    assert run.replaced(".png", "results/store/images/") <= 16 - 5
    assert before.items() <= built.stored("images/*/*.png").items()
    images = {row["cell"]: (built.folder / row["image"]).read_bytes() for row in rows}
    assert len(set(images.values())) == 16, "every option, in every combination, makes another image"
    assert {row["alphas"] for row in rows if row["role"] == "cell" and row["alpha_schedule"]} == {
        "; ".join(map(str, alphas))
        for steps in (4, 2)  # At strength 0.5 two of four steps are run.
        for alphas in ([round(1 - s / (steps - 1), 12) for s in range(steps)],)
        for alphas in (alphas, alphas[::-1])
    }
    assert {row["negative_prompt"] for row in rows if row["guidance_scale"] == "2.0"} == {
        "a blue boat at sea"
    }

    again = built.run()
    assert again.returncode == 0, again.output
    assert again.made == {}

    # Under other code that computes the same, all of them are rendered once more and adopted.
    old = (
        "        vae, device, dtype = pipeline.vae, pipeline._execution_device, pipeline.transformer.dtype\n"
    )
    new = "        vae, dtype = pipeline.vae, pipeline.transformer.dtype\n        device = pipeline._execution_device\n"
    built.edit("graftwork/models/generators/z_image/generator.py", old, new)
    built.config["accept_samples"] = 16
    built.save()
    accepted = built.run("accept")
    assert accepted.returncode == 0, accepted.output
    assert "16 sampled images are equal; 16 images adopted" in accepted.output
