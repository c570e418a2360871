"""Imported by every Python process of a workflow under test: counts what the libraries do, from outside.

PROBE_LOG names a file that gets one line per event: `load CLASS FOLDER`, `forward CLASS`, `replace PATH` (relative to
the working directory).
PROBE_KILL is `EVENT:N`: at the N-th such event of a process, the whole process group is killed; with `alone-` before it,
that process alone. Of several, separated by commas, the first that comes.
PROBE_LIMIT is `SCRIPT:BYTES`: processes of this script of workflow_scripts/ can write no longer files. Several are separated
by commas.
Events: `before-replace` and `after-replace`, alone or with `-KIND` of file (`_KINDS`); `mid-write-KIND`, when half of
the bytes are written; `hdf5-dataset`, a dataset created; `plan-shard`, a shard about to be frozen; `forward-CLASS`.
PROBE_HOLD names a file: the first forward pass of the generator waits as long as it is there.
PROBE_FAIL makes one item fail: `raise-row:HASH` and `nan-row:HASH` the row of the generator that has the conditioning
HASH, `raise-states:CLASS:N` and `nan-states:CLASS:N` the N-th input of an encoder in a process.
"""

import hashlib
import importlib.abc
import importlib.util
import os
import pathlib
import re
import resource
import signal
import sys
import time

_LOG = os.environ.get("PROBE_LOG")


def record(*words):
    if _LOG:
        descriptor = os.open(_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, (" ".join(str(word) for word in words) + "\n").encode())
        os.close(descriptor)


_counts = {}


def kill_point(event):
    """Kills everything if this is a moment that PROBE_KILL names."""
    for point in os.environ.get("PROBE_KILL", "").split(","):
        wanted, _, number = point.partition(":")
        if event != wanted.removeprefix("alone-"):
            continue
        _counts[event] = _counts.get(event, 0) + 1
        if _counts[event] == int(number):
            record("kill", event)
            if wanted.startswith("alone-"):
                os.kill(os.getpid(), signal.SIGKILL)
            os.killpg(os.getpgid(0), signal.SIGKILL)


def _caption_hash(embeds):
    """The hash of a conditioning as cells.csv has it, written down once more: the probe relies on no code of ours."""
    import torch

    embeds = embeds.detach().cpu().contiguous()
    text = f"prompt_embeds:{embeds.dtype}:{tuple(embeds.shape)}:"
    return hashlib.sha256(text.encode() + embeds.view(torch.uint8).numpy().tobytes()).hexdigest()[:32]


def _hold(name):
    """Says which job of a cluster this is, and waits while the file of PROBE_HOLD is there."""
    if name != "ZImageTransformer2DModel" or _counts["forward", name] > 1:
        return
    if "SLURM_JOB_ID" in os.environ:
        names = ("SLURM_JOB_ID", "SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES")
        record("allocated", ",".join(os.environ.get(one, "") for one in names))
    while os.path.exists(os.environ.get("PROBE_HOLD", "")):
        time.sleep(0.1)


def _fail_before(name, args):
    """Raises if PROBE_FAIL says that this forward pass fails."""
    kind, *rest = os.environ.get("PROBE_FAIL", "").split(":")
    if kind == "raise-row" and name == "ZImageTransformer2DModel":
        captions = [_caption_hash(embeds) for embeds in args[3]]
        if rest[0] in captions:
            raise ArithmeticError("PROBE_FAIL: this row always fails")
    if kind == "raise-states" and rest[0] == name and _counts["forward", name] == int(rest[1]):
        raise ArithmeticError("PROBE_FAIL: this input always fails")


def _fail_after(name, args, result):
    """Puts NaN into what a forward pass returned if PROBE_FAIL says so."""
    kind, *rest = os.environ.get("PROBE_FAIL", "").split(":")
    if kind == "nan-row" and name == "ZImageTransformer2DModel":
        for caption, row in zip(args[3], result[0], strict=True):
            if _caption_hash(caption) == rest[0]:
                row.fill_(float("nan"))
    if kind == "nan-states" and rest[0] == name and _counts["forward", name] == int(rest[1]):
        for states in filter(lambda states: states is not None, result.hidden_states):
            states.fill_(float("nan"))


_KINDS = [
    (r"results/store/(\w+)/.*", r"\1"),
    (r"results/plan/\w+/(\w+)/\w+\.json", r"\1-manifest"),
    (r"results/plan/\w+/(\w+)\.json", r"\1-plan"),
    (r"results/plan/\w+/verdict\.txt", "verdict"),
    (r"results/\w+/design\.json", "design"),
    (r"results/\w+/cells\.csv", "table"),
    (r"results/\w+/grids/.*", "grid"),
]


def _kind(path):
    """Which kind of file this is, by its place and not by its name, so that temporary ones have a kind too."""
    relative = re.sub(r"\.tmp-.*", "", os.path.relpath(path))
    for pattern, kind in _KINDS:
        if match := re.fullmatch(pattern, relative):
            return match.expand(kind)
    return None


def _wrap(owner, name, before, after=None):
    original = getattr(owner, name)
    function = (
        original.__func__
        if isinstance(original, type(_wrap.__get__(0))) and isinstance(owner, type)
        else original
    )

    def wrapped(*args, **kwargs):
        before(*args, **kwargs)
        result = function(*args, **kwargs)
        if after is not None:
            after(*args, **kwargs)
        return result

    is_class_method = isinstance(owner, type) and isinstance(original, type(_wrap.__get__(0)))
    setattr(owner, name, classmethod(wrapped) if is_class_method else wrapped)


def _patch_transformers(module):
    _wrap(
        module.PreTrainedModel,
        "from_pretrained",
        lambda cls, folder, *a, **k: record("load", cls.__name__, folder),
    )


def _patch_diffusers(module):
    _wrap(
        module.ModelMixin,
        "from_pretrained",
        lambda cls, folder, *a, **k: record("load", cls.__name__, folder),
    )


def _forward(name):
    def patch(module):
        owner = getattr(module, name)
        original = owner.forward

        def forward(*args, **kwargs):
            record("forward", name)
            kill_point(f"forward-{name}")
            _counts["forward", name] = _counts.get(("forward", name), 0) + 1
            _hold(name)
            _fail_before(name, args)
            result = original(*args, **kwargs)
            _fail_after(name, args, result)
            return result

        owner.forward = forward

    return patch


def _patch_h5py(module):
    _wrap(
        module.Group,
        "create_dataset",
        lambda *a, **k: None,
        lambda self, name, *a, **k: kill_point("hdf5-dataset"),
    )


_PATCHES = {
    "transformers.modeling_utils": _patch_transformers,
    "diffusers.models.modeling_utils": _patch_diffusers,
    "transformers.models.qwen3.modeling_qwen3": _forward("Qwen3Model"),
    "transformers.models.qwen3_vl.modeling_qwen3_vl": lambda module: [
        _forward(name)(module) for name in ("Qwen3VLModel", "Qwen3VLVisionModel")
    ],
    "diffusers.models.transformers.transformer_z_image": _forward("ZImageTransformer2DModel"),
    "diffusers.models.transformers.transformer_flux2": _forward("Flux2Transformer2DModel"),
    "diffusers.models.unets.unet_2d_condition": _forward("UNet2DConditionModel"),
    "h5py": _patch_h5py,
    "graftwork.planning.plan": lambda module: _wrap(
        module, "write_shard", lambda *a, **k: kill_point("plan-shard")
    ),
}


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        patch = _PATCHES.pop(name, None)
        if patch is None:
            return None
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            patch(module)

        spec.loader.exec_module = exec_module
        return spec


for _limit in filter(None, os.environ.get("PROBE_LIMIT", "").split(",")):
    _script, _, _bytes = _limit.partition(":")
    if any(word.endswith(f".{_script}.py") for word in sys.orig_argv):
        # As on a full disk: the write fails, and the process does not end by itself.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        # The probe's own log would be too long for it, too.
        _LOG = None
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(_bytes), int(_bytes)))

if _LOG:
    for _name in [name for name in _PATCHES if name in sys.modules]:
        _PATCHES.pop(_name)(sys.modules[_name])
    sys.meta_path.insert(0, _Finder())
    _replace = os.replace

    def _probed_replace(source, target, **kwargs):
        ours = ".tmp-" in os.fspath(source)
        if ours:
            kill_point("before-replace")
            kill_point(f"before-replace-{_kind(target)}")
        _replace(source, target, **kwargs)
        if ours:
            record("replace", os.path.relpath(target))
            kill_point("after-replace")
            kill_point(f"after-replace-{_kind(target)}")

    os.replace = _probed_replace

if _LOG and os.environ.get("PROBE_KILL", "").startswith("mid-write-"):
    _write_bytes = pathlib.Path.write_bytes

    def _probed_write_bytes(self, data):
        if _kind(self) is None:
            return _write_bytes(self, data)
        half = len(data) // 2
        with open(self, "wb") as file:
            file.write(data[:half])
            file.flush()
            kill_point(f"mid-write-{_kind(self)}")
            file.write(data[half:])
        return len(data)

    pathlib.Path.write_bytes = _probed_write_bytes
