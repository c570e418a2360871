"""Imported by every Python process of a workflow under test: counts what the libraries do, from outside.

PROBE_LOG names a file that gets one line per event: `load CLASS FOLDER`, `forward CLASS`, `replace NAME`.
PROBE_KILL is `EVENT:N`: at the N-th such event of a process, the whole process group is killed.
"""

import importlib.abc
import importlib.util
import os
import signal
import sys

_LOG = os.environ.get("PROBE_LOG")


def record(*words):
    if _LOG:
        descriptor = os.open(_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, (" ".join(str(word) for word in words) + "\n").encode())
        os.close(descriptor)


_counts = {}


def kill_point(event):
    """Kills everything if this is the moment that PROBE_KILL names."""
    wanted, _, number = os.environ.get("PROBE_KILL", "").partition(":")
    if event != wanted:
        return
    _counts[event] = _counts.get(event, 0) + 1
    if _counts[event] == int(number):
        record("kill", event)
        os.killpg(os.getpgid(0), signal.SIGKILL)


def _wrap(owner, name, before, after=None):
    original = getattr(owner, name)
    function = original.__func__ if isinstance(original, type(_wrap.__get__(0))) and isinstance(owner, type) else original

    def wrapped(*args, **kwargs):
        before(*args, **kwargs)
        result = function(*args, **kwargs)
        if after is not None:
            after(*args, **kwargs)
        return result

    is_class_method = isinstance(owner, type) and isinstance(original, type(_wrap.__get__(0)))
    setattr(owner, name, classmethod(wrapped) if is_class_method else wrapped)


def _patch_transformers(module):
    _wrap(module.PreTrainedModel, "from_pretrained", lambda cls, folder, *a, **k: record("load", cls.__name__, folder))


def _patch_diffusers(module):
    _wrap(module.ModelMixin, "from_pretrained", lambda cls, folder, *a, **k: record("load", cls.__name__, folder))


def _forward(name):
    def patch(module):
        def before(*args, **kwargs):
            record("forward", name)
            kill_point(f"forward-{name}")

        _wrap(getattr(module, name), "forward", before)

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
    "h5py": _patch_h5py,
    "workflow_scripts.lib.planning.plan": lambda module: _wrap(
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


if _LOG:
    sys.meta_path.insert(0, _Finder())
    _replace = os.replace

    def _probed_replace(source, target, **kwargs):
        ours = ".tmp-" in os.fspath(source)
        if ours:
            kill_point("before-replace")
        _replace(source, target, **kwargs)
        if ours:
            record("replace", os.path.basename(target))
            kill_point("after-replace")

    os.replace = _probed_replace
