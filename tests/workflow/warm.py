"""Runs of Snakemake whose processes need not import the libraries: they are forked from one that has.

Importing torch, transformers, diffusers and Snakemake takes more than half of the time of a small run. A server imports them
once, runs nothing, and forks: for a run of Snakemake a process in a session of its own, and for each script of a job, which
Snakemake starts as it always does, a process in that session. What forks has a single thread. Nothing of graftwork is
imported before a fork, so that each process reads the code of its own working directory.

What a process sees (arguments, environment, folder, standard streams, process group, `sitecustomize`) is what it would see if
it had been started; variables that libraries read while they are imported are those of the server.
"""

import array
import atexit
import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# The environment's variables that every process of a run finds as the server found them.
READ_WHILE_IMPORTED = (
    "HF_",
    "TRANSFORMERS_",
    "DIFFUSERS_",
    "HUGGINGFACE_",
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "TORCH_",
)

_LIBRARIES = (
    "snakemake.cli",
    "snakemake.script",
    "snakemake.report",
    "snakemake_executor_plugin_slurm",
    "numpy",
    "h5py",
    "PIL.Image",
    "PIL.ImageDraw",
    "PIL.PngImagePlugin",
    "yaml",
    "jinja2",
    "pydantic",
    "safetensors.torch",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "torch",
)
_CLASSES = {
    "transformers": (
        "AutoProcessor",
        "AutoTokenizer",
        "CLIPModel",
        "CLIPTextModelWithProjection",
        "CLIPVisionModelWithProjection",
        "Dinov2Model",
        "GenerationConfig",
        "Qwen2Tokenizer",
        "Qwen3ForCausalLM",
        "Qwen3Model",
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLModel",
        "SiglipModel",
    ),
    "diffusers": (
        "AutoencoderKL",
        "DiffusionPipeline",
        "EulerDiscreteScheduler",
        "FlowMatchEulerDiscreteScheduler",
        "Flux2KleinPipeline",
        "Krea2Pipeline",
        "StableDiffusionXLPipeline",
        "ZImagePipeline",
        "ZImageTransformer2DModel",
    ),
}

# What Snakemake takes for Python: hands a script to the server of its run, and everything else to the real one.
_SHIM = """#!{python} -SIB
import array, json, os, signal, socket, sys

if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect("\\0" + os.environ["GRAFTWORK_WARM"])
request = {{"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}}
fds = array.array("i", [0, 1, 2])
server.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
server.sendall(json.dumps(request).encode())
server.shutdown(socket.SHUT_WR)
status = server.makefile().read()
if not status:
    sys.exit("the process that ran this script is gone")
if int(status) < 0:
    signal.signal(-int(status), signal.SIG_DFL)
    os.kill(os.getpid(), -int(status))
os._exit(int(status))
"""


class Server:
    """The process that imports and forks; ends with the process that started it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]):
        """Starts it; `folder` takes the program that stands for Python."""
        self._environment = dict(environment)
        folder.mkdir(parents=True, exist_ok=True)
        shim, log = folder / "python", folder / "log.txt"
        shim.write_text(_SHIM.format(python=sys.executable))
        shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
        ours, its = socket.socketpair()
        self._address = f"graftwork-warm-{os.getpid()}-{time.monotonic_ns()}"
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._address, str(its.fileno()), str(shim)],
            env=self._environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            pass_fds=[its.fileno()],
            start_new_session=True,
        )
        its.close()
        if ours.recv(5) != b"ready":
            raise RuntimeError(f"the server of warm processes ended:\n{log.read_text()}")
        # Held open: the server ends when it is closed, however this process ends.
        self._held = ours

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Whether the libraries would read the same variables in this environment."""
        return all(
            environment.get(name) == self._environment.get(name)
            for name in {*environment, *self._environment}
            if name.startswith(READ_WHILE_IMPORTED)
        )

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> "WarmProcess":
        """Starts `snakemake ARGUMENTS` in a session of its own; its output is a pipe."""
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"\0{self._address}")
        request = {
            "arguments": ["snakemake", *arguments],
            "environment": dict(environment),
            "folder": str(folder),
        }
        reading, writing = os.pipe()
        with open(os.devnull, "rb") as nothing:
            fds = array.array("i", [nothing.fileno(), writing, writing])
            server.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        os.close(writing)
        server.sendall(json.dumps(request).encode())
        server.shutdown(socket.SHUT_WR)
        return WarmProcess(server, reading)


class WarmProcess:
    """What tests need of `subprocess.Popen`: `pid` leads a process group, `returncode` is negative for a signal."""

    def __init__(self, server: socket.socket, output: int):
        self._answers = server.makefile()
        self._output = output
        self._chunks: list[bytes] = []
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with open(self._output, "rb") as file:
            while chunk := file.read1(1 << 16):
                self._chunks.append(chunk)
        self.returncode = int(self._answers.readline())

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Returns what it printed until the end; raises TimeoutExpired, and then it goes on."""
        self._reader.join(timeout)
        if self._reader.is_alive():
            raise subprocess.TimeoutExpired("snakemake", timeout or 0.0, b"".join(self._chunks))
        return b"".join(self._chunks).decode(errors="replace"), None

    def poll(self) -> int | None:
        """Returns how it ended, or None where it goes on."""
        return self.returncode


def _import_libraries() -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    for module, names in _CLASSES.items():
        for name in names:
            getattr(importlib.import_module(module), name)
    if threading.active_count() != 1 or len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError(
            "an import started a thread: a process forked from this one could wait for its locks for ever"
        )


def _requests(listening: socket.socket, held: int, says_pid: bool = False):
    """Yields each request and its streams in a process of its own, forked for it; returns when `held` is closed.

    The asker is told how that process ends, and before that, with `says_pid`, its number.
    """
    import select

    while True:
        ready, _, _ = select.select([listening, held], [], [])
        if held in ready:
            return
        connection, _ = listening.accept()
        # The grandchild runs; its parent waits for it, so that this process never waits.
        if os.fork() == 0:
            listening.close()
            os.close(held)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            request, fds = _received(connection)
            if pid := os.fork():
                if says_pid:
                    connection.sendall(f"{pid}\n".encode())
                _answered(connection, pid, fds)
            connection.close()
            yield request, fds
            os._exit(70)
        connection.close()


def _received(connection: socket.socket) -> tuple[dict, list[int]]:
    fds = array.array("i")
    _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(3 * fds.itemsize))
    fds.frombytes(ancillary[0][2])
    with connection.makefile() as file:
        return json.loads(file.read()), list(fds)


def _answered(connection: socket.socket, pid: int, fds: Sequence[int]) -> None:
    """Waits for a process, and says how it ended."""
    for fd in (*fds, 0, 1, 2):
        os.close(fd)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: dict, fds: Sequence[int], executable: str, path: Sequence[str]) -> None:
    """Makes this process what a new interpreter would be for these arguments."""
    for target, fd in enumerate(fds):
        os.dup2(fd, target)
        os.close(fd)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = request["arguments"]
    sys.orig_argv[:] = [sys.executable, *request["arguments"]]
    sys.executable = executable
    beside = [str(Path(sys.argv[0]).resolve().parent)] if sys.argv[0].endswith(".py") else []
    named = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:] = [*beside, *named, *path]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    importlib.invalidate_caches()
    sys.modules.pop("sitecustomize", None)
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")


def _run_and_exit(function) -> None:
    """Runs what a process is for, and ends it as the interpreter would."""
    status = 0
    try:
        function()
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _serve_jobs(address: str, python: str, path: Sequence[str], fds: Sequence[int]) -> None:
    """Forks a server of this run's jobs; it ends with this process, and its jobs do not.

    `fds` are this run's standard streams, which the server must not hold open.
    """
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"\0{address}")
    listening.listen(64)
    held, ours = os.pipe()
    if os.fork():
        listening.close()
        os.close(held)
        return
    os.close(ours)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for fd in fds:
        os.close(fd)
    for request, streams in _requests(listening, held):
        _become(request, streams, python, path)
        _run_and_exit(lambda: runpy.run_path(sys.argv[0], run_name="__main__"))
    os._exit(0)


def _serve(address: str, held: int, shim: str) -> None:
    python, path = sys.executable, sys.path[1:]
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"\0{address}")
    listening.listen(64)
    _import_libraries()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.write(held, b"ready")
    for request, fds in _requests(listening, held, says_pid=True):
        os.setsid()
        jobs = f"{address}-{os.getpid()}"
        _serve_jobs(jobs, python, path, fds)
        request["environment"]["GRAFTWORK_WARM"] = jobs
        _become(request, fds, shim, path)
        from snakemake.cli import main

        _run_and_exit(main)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])
