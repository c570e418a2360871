"""No room for what a stage writes, stage after stage: a sentence that says so, nothing lost, nothing cut off, and in the end the
bytes of an undisturbed run."""

import os
import re
import shutil
import subprocess
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from tests.small_scorers import build_small_scorers
from tests.workflow.harness import Run, Workspace
from tests.workflow.inspection import Findings, inspect, losses, outcome

pytestmark = pytest.mark.slow

SCORES = ["artifacts"]
# In the order of a run; stages that stand together do not need each other, so that one run meets the limits of all of them.
STAGES = (
    ("expand_experiment",),
    ("plan_conditioning",),
    ("extract_hidden_states",),
    ("condition",),
    ("plan_images",),
    ("generate_images",),
    ("score_images",),
    ("tabulate", "summarize_scores"),
    ("draw_grid", "make_thumbnails", "plot_scores", "summarize_experiment"),
    ("build_viewer", "write_summary_page", "write_index"),
    ("verdict",),
)
SENTENCE = re.compile(
    # Not from the beginning of a line: several processes write to one pipe.
    r"graftwork: (\S+) cannot be written: it would be longer than a file may be here; "
    r"raise the limit \(ulimit -f\), or use another file system, and start again: what is finished stays, and is not made again"
)
IMAGES = "images/*/*.png"


def run_limited(workspace: Workspace, **limits: int) -> Run:
    """A run in which processes of these scripts can write no longer files than so many bytes."""
    limited = ",".join(f"{script}:{most}" for script, most in limits.items())
    return workspace.run("--keep-going", variables={"PROBE_LIMIT": limited})


def problems_after(run: Run, before: Findings, after: Findings) -> list[str]:
    """What must not be so after a run that could not write."""
    problems = losses(before, after)
    problems += [f"left: {path.name}" for path in after.temporary]
    if run.returncode != 1:
        problems.append(f"exit status {run.returncode}")
    if "Traceback" in run.output or "Logging error" in run.output:
        problems.append("a traceback")
    return problems


@pytest.fixture
def undisturbed(built: Workspace) -> Workspace:
    """The finished workspace, and its scores."""
    built.experiment["scores"] = SCORES
    built.save()
    run = built.run()
    assert run.returncode == 0, run.output
    return built


def meet_limits(
    workspace: Workspace, stages: Sequence[Sequence[str]], look: Callable[[Workspace], Findings] = inspect
) -> Counter[str]:
    """Runs with no room for one stage after the other, checks what each says and leaves, and returns what was made."""
    problems, made = [], Counter()
    for together in stages:
        before = look(workspace)
        run = run_limited(workspace, **dict.fromkeys(together, 0))
        made += Counter(run.made)
        found = problems_after(run, before, look(workspace))
        said = [Path(path) for path in SENTENCE.findall(run.output)]
        # Of each job at least the log, which ends, and the file for which it ended.
        for stage in together:
            if not run.jobs[stage]:
                found.append(f"{stage} did not run: {dict(run.jobs)}")
            if not any(stage in path.with_suffix("").parts for path in said):
                found.append(f"no sentence about the log of {stage}")
        results = [path for path in said if path.parts[0] == "results"]
        if len(results) < len(together):
            found.append(f"{len(results)} sentences about results")
        if found:
            found.append(run.output)
        problems += [f"{', '.join(together)}: {problem}" for problem in found]
    assert problems == [], "\n".join(problems)
    return made


def test_no_room_in_each_stage(fresh: Workspace, undisturbed: Workspace) -> None:
    fresh.experiment["scores"] = SCORES
    fresh.save()
    made = meet_limits(fresh, STAGES)
    run = fresh.run()
    assert run.returncode == 0, run.output
    made += Counter(run.made)
    expected, got = outcome(undisturbed), outcome(fresh)
    assert {name for name in expected | got if expected.get(name) != got.get(name)} == set()
    # What was stored before a stage failed was not made again.
    assert made["images"] == len(undisturbed.stored(IMAGES))
    assert made["hidden_states"] == len(list((fresh.folder / "results/store/hidden_states").glob("*/*.h5")))


@pytest.fixture
def measured(tmp_path: Path, small_models: Path) -> tuple[Workspace, Workspace]:
    """Two workspaces that fit on a corpus, map, analyze and ask a scorer: one is finished, one is empty."""
    made = Workspace(tmp_path / "whole", small_models), Workspace(tmp_path / "limited", small_models)
    corpus = {
        "prompts": ["a green tree", "a small dog", "a blue boat at sea"],
        "references": ["cartoon_house"],
    }
    layer = {"encoder": "small-qwen3-vl-instruct", "hidden_layer": -2}
    analysis = {
        "corpus": "few",
        "encoders": [{"encoder": name, "hidden_layers": [-2]} for name in ("small-qwen3", layer["encoder"])],
        "comparisons": [{"a": layer, "b": {**layer, "encoder": "small-qwen3"}}],
    }
    mapped = {"title": "Small", "question": "Is it linear?", "encoder": layer["encoder"], "corpus": "few"}
    files = {
        "corpora/few": corpus,
        "statistics/small": analysis,
        "maps/few": {**mapped, "method": "affine", "methods": {"affine": {"method": "affine_per_dim"}}},
    }
    for workspace in made:
        build_small_scorers(workspace.folder / "results/models/scorers")
        for name, content in files.items():
            path = workspace.folder / f"config/{name}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(yaml.safe_dump(content))
        models = workspace.folder / "config/models.yaml"
        entries = yaml.safe_load(models.read_text())
        entries["scorers"] = {
            name: {"family": name, "path": f"results/models/scorers/{name}"} for name in ("siglip", "dinov2")
        }
        models.write_text(yaml.safe_dump(entries))
        workspace.experiment["base"] |= {"statistics": {"corpus": "few"}, "alpha": 0.5}
        workspace.experiment["axes"] = {}
        workspace.experiment["settings"] = {
            "normal": {"normalization": "per_dim"},
            "mapped": {"mapping": {"map": "few"}},
        }
        workspace.experiment["grids"] = [{"x": "setting", "y": "prompt"}]
        workspace.experiment |= {
            "scores": ["reference"],
            "scorers": {"semantic": "siglip", "structural": "dinov2"},
        }
        workspace.config["statistics"] = ["small"]
        workspace.save()
    run = made[0].run()
    assert run.returncode == 0, run.output
    return made


# What is measured beside the images; those of the other test are not met again.
MEASURING = (
    ("measure_statistics", "fit_maps", "plan_statistics"),
    ("analyze_statistics", "plan_scores"),
    ("judge_statistics", "write_analysis_page", "measure_images"),
)


def no_leftovers(workspace: Workspace) -> Findings:
    """What is half-written; whether the rest is whole is seen in the end."""
    return Findings(temporary=sorted((workspace.folder / "results").rglob(".tmp-*")))


def test_no_room_for_what_is_measured(measured: tuple[Workspace, Workspace]) -> None:
    whole, limited = measured
    meet_limits(limited, MEASURING, no_leftovers)
    run = limited.run()
    assert run.returncode == 0, run.output
    expected, got = outcome(whole), outcome(limited)
    assert {name for name in expected | got if expected.get(name) != got.get(name)} == set()


def test_room_for_some_of_the_images(built: Workspace) -> None:
    expected, images = outcome(built), built.stored(IMAGES)
    sizes = sorted(map(len, images.values()))
    for path in (built.folder / "results/store").glob(IMAGES):
        path.unlink()
    run = run_limited(built, generate_images=sizes[len(sizes) // 2])
    left = built.stored(IMAGES)
    assert 0 < len(left) < len(images), sizes
    assert left.items() <= images.items()
    assert problems_after(run, Findings(), inspect(built)) == []
    # Images that do not fit are failures of their own: the tables have the sentence, and the last lines do.
    failed = [row for row in built.rows() if row["status"] == "failed"]
    assert failed
    assert all(
        "cannot be written: it would be longer than a file may be here" in row["error"] for row in failed
    )
    assert "cannot be written" in run.output

    run = built.run()
    assert run.returncode == 0, run.output
    assert run.made["images"] == len(images) - len(left)
    got = outcome(built)
    assert {name for name in expected | got if expected.get(name) != got.get(name)} == set()


PAGE = 4096


class SmallDisk:
    """A file system of its own for the store of a workspace, in memory."""

    def __init__(self, store: Path):
        self._store = store

    def mount(self) -> None:
        """Puts the store on it, with as much room as it needs at present and a few pages more."""
        aside = self._store.with_name("store-aside")
        self._store.rename(aside)
        self._store.mkdir()
        self._call("mount", "-t", "tmpfs", "-o", "size=256m", "graftwork-test", str(self._store))
        shutil.copytree(aside, self._store, dirs_exist_ok=True)
        used = os.statvfs(self._store)
        self.resize((used.f_blocks - used.f_bfree) * used.f_frsize + 3 * PAGE)

    def resize(self, size: int) -> None:
        self._call("mount", "-o", f"remount,size={size}", str(self._store))

    def unmount(self) -> None:
        self._call("umount", "--lazy", str(self._store))

    def _call(self, *words: str) -> None:
        subprocess.run(words, check=True, capture_output=True, text=True)


@pytest.fixture
def small_disk(built: Workspace) -> Iterator[SmallDisk]:
    disk = SmallDisk(built.folder / "results/store")
    for path in (built.folder / "results/store").glob(IMAGES):
        path.unlink()
    try:
        disk.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"a file system cannot be mounted here: {getattr(error, 'stderr', None) or error}"
        warnings.warn(pytest.PytestWarning(f"A FULL DISK WAS NOT TESTED: {reason}"), stacklevel=2)
        pytest.skip(reason)
    yield disk
    disk.unmount()


def test_a_disk_that_is_full(finished: Path, built: Workspace, small_disk: SmallDisk) -> None:
    undisturbed = Workspace.at(finished)
    before = inspect(built)
    run = built.run()
    assert problems_after(run, before, inspect(built)) == [], run.output
    assert re.search(
        r"results/store/\S+ cannot be written: the disk is full; free some space, and start again: what is finished stays",
        run.output,
    ), run.output

    small_disk.resize(1 << 28)
    run = built.run()
    assert run.returncode == 0, run.output
    expected, got = outcome(undisturbed), outcome(built)
    assert {name for name in expected | got if expected.get(name) != got.get(name)} == set()
