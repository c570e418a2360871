"""`kill -9` and resume with generators of other families, and with controls by generators that are shown the reference."""

from pathlib import Path

import pytest
import yaml

from tests.small_generators import generator_entries, new_generator
from tests.small_sdxl import save_sdxl
from tests.workflow.harness import Workspace
from tests.workflow.inspection import Findings, inspect, outcome
from tests.workflow.test_kill import killed_run, was_killed

pytestmark = pytest.mark.slow

SMALL = Path("results/models/small")
# A batch of the generator of the cells and of the editor, and one of the adapter.
BATCHES = ("forward-Flux2Transformer2DModel:3", "forward-UNet2DConditionModel:2")
FILES = ("mid-write-images:2", "before-replace-images:1", "after-replace-images-manifest:1")


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory, small_models: Path) -> tuple[Workspace, Workspace]:
    """Two workspaces with the same models: one that was built without interruption, and an empty one."""
    folder = tmp_path_factory.mktemp("families").resolve()
    saved = folder / "models"
    new_generator("flux2_klein").save_pretrained(saved / "flux2_klein")
    save_sdxl(saved / "sdxl")
    made = Workspace(folder / "uninterrupted", small_models), Workspace(folder / "killed", small_models)
    for workspace in made:
        for name in ("flux2_klein", "sdxl"):
            (workspace.folder / SMALL / name).symlink_to(saved / name)
        _add_models(workspace.folder / "config/models.yaml")
        workspace.config["defaults"]["generator"] = "flux2_klein"
        workspace.experiment |= {
            "controls": ["edit", "ip_adapter"],
            "ip_adapter": {"generator": "sdxl", "guidance_scale": 1.0, "scales": [0.3, 0.9]},
        }
        workspace.save()
    run = made[0].run()
    assert run.returncode == 0, run.output
    return made


def _add_models(file: Path) -> None:
    models = yaml.safe_load(file.read_text())
    models["generators"]["flux2_klein"] = generator_entries(SMALL, "small-")["flux2_klein"]
    path = str(SMALL / "sdxl")
    models["generators"]["sdxl"] = {"family": "sdxl", "path": path, "text_encoder": "clip"}
    models["encoders"]["clip"] = {"family": "clip_pair", "path": path}
    file.write_text(yaml.safe_dump(models))


def test_kills_lose_nothing_and_a_rerun_makes_nothing(workspaces: tuple[Workspace, Workspace]) -> None:
    uninterrupted, workspace = workspaces
    full, state, counts = inspect(uninterrupted).count(), Findings(), []
    left = list(BATCHES)
    for point in (None, None, *FILES):
        # One job at a time, and the first batch that comes: the job of the other would have made all its images before.
        wanted = point or ",".join(left)
        run, state, problems = killed_run(workspace, wanted, state, "--cores", "1")
        assert was_killed(run, wanted), (wanted, run.returncode, run.output[-4000:])
        assert not problems, (wanted, problems)
        counts.append(state.count())
        left = [batch for batch in left if not run.events[f"kill {batch.partition(':')[0]}"]]
    assert left == []
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] <= full

    assert workspace.run("--unlock").returncode == 0
    run = workspace.run()
    assert run.returncode == 0, run.output
    expected, got = outcome(uninterrupted), outcome(workspace)
    assert [name for name in got if expected.get(name) != got[name]] == []
    # Conditioning that two jobs share stays until something is planned again, as it was after a kill.
    assert [name for name in expected.keys() - got.keys() if not name.startswith("store/conditioning/")] == []
    roles = [row["role"] for row in workspace.rows() if row["status"] == "done"]
    # Of two prompts: two alphas, the text alone of two generators, an edit, and two scales of the adapter.
    assert {role: roles.count(role) for role in set(roles)} == {"cell": 4, "baseline": 4, "control": 6}
    again = workspace.run()
    assert "Nothing to be done" in again.output, again.output
