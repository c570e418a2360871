"""Bad input is refused before any model is loaded, with the value, what is allowed, the file and the key.

Most cases ask the library, which is quick; a few go through the command line and look at the output as a whole.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from graftwork.core.errors import DesignError
from graftwork.design.project import Project
from tests.workflow.harness import EXPERIMENT, REPOSITORY, Run, Workspace

EXPERIMENT_FILE = "config/experiments/small.yaml"
CONFIG_FILE = "config/config.yaml"
MODELS_FILE = "config/models.yaml"


class Files:
    """The configuration of a small project, as values to change, and the folder that they are written to."""

    def __init__(self, folder: Path, models: Path):
        self.folder = folder
        shutil.copytree(REPOSITORY / "resources/references", folder / "resources/references")
        (folder / "config/experiments").mkdir(parents=True)
        (folder / "config/prompts").mkdir()
        shutil.copy2(REPOSITORY / "config/prompts/everyday.yaml", folder / "config/prompts")
        (folder / "results/models").mkdir(parents=True)
        (folder / "results/models/small").symlink_to(models)
        self.config: dict[str, Any] = {
            "experiments": ["small"],
            "defaults": {"generator": "small-z-image"},
            "hardware": {"generation": {"batch_shape": 2}},
        }
        self.models = yaml.safe_load(Path(__file__).with_name("models.yaml").read_text())
        self.experiment = yaml.safe_load(yaml.safe_dump(EXPERIMENT))
        self.text: dict[str, str] = {}

    @property
    def base(self) -> dict[str, Any]:
        return self.experiment["base"]

    @property
    def axes(self) -> dict[str, Any]:
        return self.experiment["axes"]

    def design(self) -> Any:
        """Does what a start of the workflow does with the configuration."""
        files = {CONFIG_FILE: self.config, MODELS_FILE: self.models, EXPERIMENT_FILE: self.experiment}
        for name, value in files.items():
            (self.folder / name).write_text(self.text.get(name) or yaml.safe_dump(value, sort_keys=False))
        return Project(self.config, self.folder).design("small")

    def own_models(self) -> Path:
        """Replaces the shared models by a copy that may be changed."""
        link = self.folder / "results/models/small"
        target = link.resolve()
        link.unlink()
        shutil.copytree(target, link)
        return link

    def picture(self, content: bytes) -> None:
        """Gives the experiment a reference of this content."""
        (self.folder / "config/references").mkdir()
        (self.folder / "config/references/mine.png").write_bytes(content)
        self.base["references"] = ["mine"]


def put(where: str, **values: Any) -> Callable[[Files], None]:
    """Sets keys at a place such as `experiment.base`."""

    def change(files: Files) -> None:
        attribute, *keys = where.split(".")
        at = getattr(files, attribute)
        for key in keys:
            at = at.setdefault(key, {})
        at.update(values)

    return change


def base(**values: Any) -> Callable[[Files], None]:
    return put("experiment.base", **values)


def axes(**values: Any) -> Callable[[Files], None]:
    return put("experiment.axes", **values)


def both(*changes: Callable[[Files], None]) -> Callable[[Files], None]:
    def change(files: Files) -> None:
        for one in changes:
            one(files)

    return change


def written(file: str, text: str) -> Callable[[Files], None]:
    return lambda files: files.text.update({file: text})


def change_json(file: str, **values: Any) -> Callable[[Files], None]:
    def change(files: Files) -> None:
        path = files.own_models() / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def remove_weights(files: Files) -> None:
    for path in (files.own_models() / "z-image/transformer").glob("*.safetensors"):
        path.unlink()


def house() -> bytes:
    return (REPOSITORY / "resources/references/cartoon_house.png").read_bytes()


CASES: dict[str, tuple[Callable[[Files], None], list[str]]] = {
    # Unknown names.
    "unknown key in config.yaml": (
        put("config", shardin={}),
        [
            CONFIG_FILE,
            "shardin",
            "is not a known key",
            "allowed: experiments, models",
            "did you mean 'sharding'",
        ],
    ),
    "unknown nested key in config.yaml": (
        put("config.hardware.generation", batchshape=2),
        [CONFIG_FILE, "hardware.generation.batchshape", "did you mean 'batch_shape'"],
    ),
    "unknown key in defaults": (
        put("config.defaults", heigth=64),
        [CONFIG_FILE, "defaults.heigth", "did you mean 'height'"],
    ),
    "unknown key in models.yaml": (
        put("models.encoders.small-qwen3", famly="qwen3"),
        [MODELS_FILE, "encoders.small-qwen3.famly", "did you mean 'family'"],
    ),
    "unknown family in models.yaml": (
        put("models.encoders.small-qwen3", family="qwen"),
        [
            MODELS_FILE,
            "encoders.small-qwen3.family",
            "'qwen'",
            "'qwen3', 'qwen3_vl'",
            "did you mean 'qwen3'?",
        ],
    ),
    "unknown key in an experiment": (
        put("experiment", tilte="x"),
        [EXPERIMENT_FILE, "tilte", "did you mean 'title'"],
    ),
    "unknown key in base": (
        base(hiden_layer=-2),
        [EXPERIMENT_FILE, "base.hiden_layer", "did you mean 'hidden_layer'"],
    ),
    "unknown axis": (axes(alhpa=[0.1]), [EXPERIMENT_FILE, "axes", "'alhpa'", "did you mean 'alpha'"]),
    "unknown grid axis": (
        put("experiment", grids=[{"x": "alpha", "y": "promt"}]),
        [
            EXPERIMENT_FILE,
            "grids.0",
            "'promt'",
            "allowed: prompt, reference, seed, alpha",
            "did you mean 'prompt'",
        ],
    ),
    "unknown encoder": (
        base(encoder="small-qwen3-vl"),
        [EXPERIMENT_FILE, "encoder", "'small-qwen3-vl'", "did you mean"],
    ),
    "unknown generator": (
        base(generator="z-image"),
        [EXPERIMENT_FILE, "generator", "'z-image'", "allowed: small-z-image, z-image-turbo"],
    ),
    "unknown text encoder of a generator": (
        put("models.generators.small-z-image", text_encoder="qwen"),
        [MODELS_FILE, "generators.small-z-image.text_encoder", "'qwen'", "allowed: small-qwen3"],
    ),
    "unknown transform": (
        base(normalization="globl"),
        [
            EXPERIMENT_FILE,
            "base.normalization",
            "'globl'",
            "'none', 'global', 'per_dim', 'hybrid', 'rms' or 'whiten'",
        ],
    ),
    "unknown transform on an axis": (
        axes(normalization=["none", "globl"]),
        [
            EXPERIMENT_FILE,
            "axes.normalization",
            "'globl'",
            "'none', 'global', 'per_dim', 'hybrid', 'rms' or 'whiten'",
            "did you mean 'global'",
        ],
    ),
    "unknown experiment": (
        put("config", experiments=["smal"]),
        [CONFIG_FILE, "experiments", "'smal'", "there are: small", "did you mean 'small'"],
    ),
    "unknown prompt file": (
        base(prompts="everday"),
        [EXPERIMENT_FILE, "base.prompts", "'everday'", "there are: everyday", "did you mean 'everyday'"],
    ),
    # Types and lists.
    "a text where a number belongs": (
        base(height="big"),
        [EXPERIMENT_FILE, "base.height", "'big'", "a whole number"],
    ),
    "a number where a list belongs": (base(seeds=1), [EXPERIMENT_FILE, "base.seeds", "1", "a list"]),
    "a text where an axis belongs": (axes(alpha="0.5"), [EXPERIMENT_FILE, "axes.alpha", "'0.5'"]),
    "yes where a number belongs": (axes(hidden_layer=[True]), [EXPERIMENT_FILE, "axes.hidden_layer", "True"]),
    "a fraction as seed": (axes(seed=[1.5]), [EXPERIMENT_FILE, "axes.seed", "1.5", "whole numbers from 0"]),
    "a negative seed": (
        base(seeds=[-1]),
        [EXPERIMENT_FILE, "base.seeds", "-1", "numbers from 0"],
    ),
    "a list for an experiment": (
        written(EXPERIMENT_FILE, "- a\n- b\n"),
        [EXPERIMENT_FILE, "must be a mapping"],
    ),
    "an empty experiment": (written(EXPERIMENT_FILE, "\n"), [EXPERIMENT_FILE, "must be a mapping", "base"]),
    "no base": (lambda files: files.experiment.pop("base"), [EXPERIMENT_FILE, "base is missing"]),
    "no prompts": (lambda files: files.base.pop("prompts"), [EXPERIMENT_FILE, "base.prompts is missing"]),
    "an empty axis": (axes(alpha=[]), [EXPERIMENT_FILE, "axes.alpha", "empty"]),
    "no seeds": (base(seeds=[]), [EXPERIMENT_FILE, "base.seeds", "empty"]),
    "a repeated value": (axes(alpha=[0.5, 0.5]), [EXPERIMENT_FILE, "axes.alpha", "0.5", "more than once"]),
    "a repeated value, written in two ways": (
        axes(alpha=[1, 1.0]),
        [EXPERIMENT_FILE, "axes.alpha", "1.0", "more than once"],
    ),
    "a repeated prompt": (
        base(prompts=["a", "a"]),
        [EXPERIMENT_FILE, "base.prompts", "'a'", "more than once"],
    ),
    "a range of one value": (
        axes(alpha={"range": [0, 1], "count": 1}),
        [EXPERIMENT_FILE, "axes.alpha.count", "1", "numbers from 2"],
    ),
    "a misspelt key in a range": (
        axes(alpha={"range": [0, 1], "cuont": 3}),
        [EXPERIMENT_FILE, "axes.alpha.cuont", "did you mean 'count'"],
    ),
    "a grid of one axis with itself": (
        put("experiment", grids=[{"x": "alpha", "y": "alpha"}]),
        [EXPERIMENT_FILE, "grids.0", "'alpha'", "must differ"],
    ),
    # Models.
    "a layer that the encoder lacks": (
        axes(hidden_layer=[-2, -36]),
        [EXPERIMENT_FILE, "hidden_layer", "-36", "small-qwen3-vl-instruct", "6 layers", "-7 to 6"],
    ),
    "a text layer that the text encoder lacks": (
        base(text_hidden_layer=7),
        [EXPERIMENT_FILE, "text_hidden_layer", "7", "small-qwen3", "-7 to 6"],
    ),
    "an encoder of another width": (
        change_json("z-image/transformer/config.json", cap_feat_dim=128),
        [
            MODELS_FILE,
            "small-z-image",
            "transformer/config.json",
            "cap_embedder.0.weight in the shape [128]",
            "[64]",
        ],
    ),
    "a missing model folder": (
        put("models.encoders.small-qwen3-vl-instruct", path="results/models/none"),
        [MODELS_FILE, "encoders.small-qwen3-vl-instruct.path", "results/models/none", "does not exist"],
    ),
    "an incomplete model folder": (
        remove_weights,
        [
            MODELS_FILE,
            "generators.small-z-image",
            "results/models/small/z-image lacks",
            "transformer/*.safetensors",
        ],
    ),
    "a model of another family": (
        put("models.encoders.small-qwen3-vl-instruct", family="qwen3"),
        [MODELS_FILE, "encoders.small-qwen3-vl-instruct", "'qwen3'", "'qwen3_vl'"],
    ),
    "a model with neither path nor repo": (
        lambda files: files.models["encoders"]["small-qwen3-vl-instruct"].pop("path"),
        [MODELS_FILE, "encoders.small-qwen3-vl-instruct", ".path or .repo"],
    ),
    "a branch for a revision": (
        put("models.encoders.small-qwen3-vl-instruct", path=None, repo="a/b", revision="main"),
        [MODELS_FILE, "encoders.small-qwen3-vl-instruct.revision", "'main'", "40"],
    ),
    "a hub model that is not here": (
        put("models.encoders.small-qwen3-vl-instruct", path=None, repo="a/b", revision="0" * 40),
        [MODELS_FILE, "encoders.small-qwen3-vl-instruct", "hf download a/b --revision 000"],
    ),
    # Prompts.
    "an empty prompt": (base(prompts=["a", "  "]), [EXPERIMENT_FILE, "base.prompts", "'  '", "empty"]),
    "a prompt over the token limit": (
        base(prompts=["word " * 1600]),
        [EXPERIMENT_FILE, "prompt", "'word word", "tokens", "at most 1504", "shorten"],
    ),
    "a prompt with control tokens": (
        base(prompts=["a house <|im_end|>"]),
        [EXPERIMENT_FILE, "prompt", "'a house <|im_end|>'", "'<|im_end|>'", "allow_control_tokens: true"],
    ),
    "a prompt with the encoder's image token": (
        base(prompts=["a house <|image_pad|>"]),
        [EXPERIMENT_FILE, "'<|image_pad|>'", "allow_control_tokens: true"],
    ),
    # References.
    "a missing reference": (
        base(references=["cartoon_hose"]),
        [EXPERIMENT_FILE, "base.references", "'cartoon_hose'", "did you mean 'cartoon_house'"],
    ),
    "a missing reference on an axis": (
        axes(reference=["cartoon_house", "x.png"]),
        [EXPERIMENT_FILE, "axes.reference", "'x.png'", "there are: cartoon_house"],
    ),
    "an empty reference": (
        lambda files: files.picture(b""),
        [EXPERIMENT_FILE, "base.references", "mine.png", "empty"],
    ),
    "a truncated reference": (
        lambda files: files.picture(house()[:-2000]),
        [EXPERIMENT_FILE, "base.references", "mine.png", "truncated"],
    ),
    "a reference that is no image": (
        lambda files: files.picture(b"hello"),
        [EXPERIMENT_FILE, "base.references", "mine.png", "cannot be read"],
    ),
    # Sizes and combinations.
    "more cells than max_images": (
        put("config.limits", max_images=3),
        [
            EXPERIMENT_FILE,
            "2 prompt x 2 alpha = 4",
            "max_images 3",
            "max_images: 4",
            f"{CONFIG_FILE}: limits.max_images",
        ],
    ),
    "more cells than the experiment's own max_images": (
        put("experiment", max_images=2),
        [EXPERIMENT_FILE, "= 4", "max_images 2", f"{EXPERIMENT_FILE}: max_images"],
    ),
    "alpha out of range": (
        axes(alpha=[0, 1.5]),
        [EXPERIMENT_FILE, "axes.alpha", "1.5", "numbers up to 1"],
    ),
    "alpha that is not a number": (axes(alpha=[float("nan")]), [EXPERIMENT_FILE, "axes.alpha", "nan"]),
    "alpha without encoder": (
        lambda files: files.base.pop("encoder"),
        [EXPERIMENT_FILE, "alpha 0.5", "base.encoder", "alpha: 0"],
    ),
    "references for a text encoder": (
        base(encoder="small-qwen3"),
        [EXPERIMENT_FILE, "'cartoon_house'", "'small-qwen3' takes no images", "qwen3_vl"],
    ),
    "length_matching none at alpha 0.5": (
        base(length_matching="none"),
        [EXPERIMENT_FILE, "length_matching 'none'", "alpha 0.5", "alpha 1"],
    ),
    "image_only for a text encoder": (
        base(token_mode="image_only", references=[], encoder="small-qwen3"),
        [EXPERIMENT_FILE, "token_mode 'image_only'", "'small-qwen3' takes no images", "qwen3_vl"],
    ),
    "a dimension that hidden states do not have": (
        base(masking="zero", masking_dimensions=[64]),
        [EXPERIMENT_FILE, "masking_dimensions", "dimension 64", "width 64", "0 to 63"],
    ),
    "image_only without reference": (
        base(token_mode="image_only", references=[]),
        [EXPERIMENT_FILE, "token_mode 'image_only'", "base.references"],
    ),
    "height that is no multiple": (
        base(height=50),
        [EXPERIMENT_FILE, "height 50", "multiple of 16", "small-z-image"],
    ),
    "guidance": (
        base(guidance_scale=-4.0),
        [EXPERIMENT_FILE, "base.guidance_scale", "-4.0", "numbers from 0"],
    ),
    # Files that are not YAML.
    "invalid YAML": (
        written(EXPERIMENT_FILE, "base: {prompts: [a\n"),
        [EXPERIMENT_FILE, "not valid YAML", "line 2"],
    ),
    "a repeated key": (
        written(MODELS_FILE, "encoders: {}\ngenerators: {}\nencoders: {}\n"),
        [MODELS_FILE, "'encoders' occurs twice", "line 3"],
    ),
    "a tabulator for indentation": (
        written(EXPERIMENT_FILE, "base:\n\tprompts: x\n"),
        [EXPERIMENT_FILE, "line 2"],
    ),
}


@pytest.fixture
def files(tmp_path: Path, small_models: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-hub"))
    files = Files(tmp_path / "w", small_models)
    monkeypatch.chdir(files.folder)
    return files


@pytest.mark.parametrize(("change", "parts"), CASES.values(), ids=CASES)
def test_bad_input_is_named(files: Files, change: Callable[[Files], None], parts: list[str]) -> None:
    change(files)
    with pytest.raises(DesignError) as caught:
        files.design()
    message = str(caught.value)
    print(message)
    for part in parts:
        assert part in message
    assert str(files.folder) not in message, "a file is named as the user knows it"


def test_roles_are_counted_apart(files: Files) -> None:
    """4 cells and 2 baselines are within max_images 4."""
    files.experiment["max_images"] = 4
    assert [cell.role for cell in files.design().cells].count("baseline") == 2


def test_control_tokens_can_be_allowed(files: Files) -> None:
    files.base["prompts"] = ["a house <|im_end|>"]
    files.experiment["allow_control_tokens"] = True
    assert files.design().cells


def test_an_experiment_by_a_name_that_is_taken(files: Files) -> None:
    files.design()
    source = files.folder / EXPERIMENT_FILE
    for name in ("store", "two words"):
        shutil.copy2(source, source.with_name(f"{name}.yaml"))
        with pytest.raises(
            DesignError, match=f"config/experiments/{name}.yaml: an experiment cannot be called '{name}'"
        ):
            Project(files.config, files.folder).design(name)


# Through the command line.


def misspell(workspace: Workspace) -> None:
    workspace.experiment["base"]["hiden_layer"] = -2
    workspace.save()


def hide_models(workspace: Workspace) -> None:
    (workspace.folder / "results/models").rename(workspace.folder / "away")


def append(file: str, text: str) -> Callable[[Workspace], None]:
    def change(workspace: Workspace) -> None:
        with open(workspace.folder / file, "a") as stream:
            stream.write(text)

    return change


def break_another(workspace: Workspace) -> None:
    workspace.save("other")
    append("config/experiments/other.yaml", "axis: {}\n")(workspace)
    # It is no matter of runs that do not build it.
    run = workspace.run("-n")
    assert run.returncode == 0, run.output


COMMANDS: dict[str, tuple[Callable[[Workspace], None], list[str], list[str]]] = {
    "a misspelt key": (misspell, [], [f"{EXPERIMENT_FILE}: base.hiden_layer", "did you mean 'hidden_layer'"]),
    "a missing model folder": (
        hide_models,
        [],
        [f"{MODELS_FILE}: generators.small-z-image.path", "does not exist"],
    ),
    "a repeated key in config.yaml": (
        append(CONFIG_FILE, "experiments: [other]\n"),
        [],
        [CONFIG_FILE, "'experiments' occurs twice"],
    ),
    "config.yaml is no YAML": (
        append(CONFIG_FILE, "x: [\n"),
        [],
        [f"{CONFIG_FILE} is not valid YAML", "line 9"],
    ),
    "a text for a list on the command line": (
        lambda workspace: None,
        ["--config", "experiments=small"],
        [f"{CONFIG_FILE}: experiments: 'small' is not allowed; allowed: a list"],
    ),
    "a target of an experiment that there is not": (
        lambda workspace: None,
        ["-n", "results/smal/cells.csv"],
        ["results/smal/cells.csv: 'smal' is no file in config/experiments/", "did you mean 'small'"],
    ),
    "an experiment file of the wrong ending": (
        lambda workspace: (workspace.folder / "config/experiments/mine.yml").write_text("base: {}\n"),
        ["results/mine/cells.csv"],
        ["results/mine/cells.csv: config/experiments/mine.yml is not read", "rename it to mine.yaml"],
    ),
    "an error in an experiment asked for by name": (
        break_another,
        ["results/other/cells.csv"],
        ["config/experiments/other.yaml: axis is not a known key", "did you mean 'axes'"],
    ),
}


def refused(run: Run, parts: list[str]) -> None:
    assert run.returncode == 1
    for part in parts:
        assert part in run.output
    assert "Traceback" not in run.output
    assert not run.loads
    assert not run.made


@pytest.mark.parametrize(("change", "arguments", "parts"), COMMANDS.values(), ids=COMMANDS)
def test_the_command_line_refuses(
    fresh: Workspace, change: Callable[[Workspace], None], arguments: list[str], parts: list[str]
) -> None:
    change(fresh)
    run = fresh.run(*arguments)
    print(run.output)
    refused(run, parts)
    assert not run.jobs
    assert "graftwork: " not in run.output, "nothing is said of what a run would make"


def test_cuda_with_a_cpu_build(fresh: Workspace) -> None:
    if torch.version.cuda:
        pytest.skip("this torch has CUDA")
    fresh.config["hardware"] = {"extraction": {"device": "cuda"}, "generation": {"device": "cuda"}}
    fresh.save()
    run = fresh.run()
    refused(
        run,
        ["device 'cuda'", "is a CPU build", "requirements/cuda.txt", f"{CONFIG_FILE}: hardware.extraction"],
    )
    assert "generate_images" not in run.jobs
