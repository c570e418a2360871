"""A Slurm cluster on this machine, for tests: one controller, and two nodes with two pretend GPUs each.

Everything lies in one folder: configuration, keys, sockets, state. Nothing outside of it is read or changed, so that a Slurm
of the machine is not in the way. Needs root, and the packages slurm-wlm and munge (Debian and Ubuntu).
"""

import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

CLIENTS = ("sbatch", "srun", "squeue", "sinfo", "scontrol", "scancel", "sacct", "sacctmgr")
PROGRAMS = ("slurmctld", "slurmd", "munged", *CLIENTS)
NODES = ("n1", "n2")
GPUS_PER_NODE = 2
# As much as any rule of the workflow asks for: the nodes only say that they have it.
CPUS_PER_NODE, MEMORY_MB = 16, 1_000_000
_SECONDS_TO_START = 60.0

_SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
DefMemPerCPU=100
ReturnToService=1
MinJobAge=300
KillWait=3
SlurmdTimeout=20
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=2
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=cpu Nodes=ALL MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Says why no cluster can be started here, or returns None."""
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        return f"{', '.join(missing)} are not installed (Debian and Ubuntu: apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "slurmd and pretend GPUs need root"
    return None


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")


class Cluster:
    """The cluster; a context manager that starts and stops it."""

    def __init__(self, folder: Path):
        """Takes an empty folder with a short path: names of sockets have at most 107 characters."""
        self.folder = folder
        # Snakemake's plugins take variables of Slurm out of the environment of jobs: programs of Slurm are found in a folder
        # where each sets its own.
        self.environment = {"PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/sbin"}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Cluster":
        self._write()
        try:
            self._start("munged", "--foreground", "--force", *self._munge_options())
            self._wait((self.folder / "munge.socket").exists, "munged")
            self._start("slurmctld", "-D")
            for node in NODES:
                self._start("slurmd", "-D", "-N", node)
            self._wait(self._is_ready, "the nodes")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if any(daemon.poll() is None for daemon in self._daemons):
            self.call("scancel", "--user=root", check=False)
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def call(self, program: str, *arguments: str, check: bool = True) -> str:
        """Runs a client of Slurm, and returns what it prints.

        Raises:
            RuntimeError: If it fails, with what it says.
        """
        done = subprocess.run(
            [self.folder / "bin" / program, *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if check and done.returncode:
            raise RuntimeError(f"{program} {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Returns the jobs that wait or run: id, comment (rule and wildcards), state, node."""
        names = ("id", "state", "node", "comment")
        lines = self.call("squeue", "--noheader", "--format=%i|%T|%N|%k").splitlines()
        return [dict(zip(names, line.split("|", 3), strict=True)) for line in lines]

    def states(self) -> dict[str, str]:
        """Returns node -> state, as sinfo says it (`idle`, `mix`, `down`, with a mark after it)."""
        lines = self.call("sinfo", "--noheader", "-N", "--format=%N %t").splitlines()
        return {line.split()[0]: line.split()[1].rstrip("*~#!%$@^-") for line in lines}

    def _write(self) -> None:
        (self.folder / "state").mkdir()
        (self.folder / "bin").mkdir()
        for name in CLIENTS:
            script = self.folder / "bin" / name
            script.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {_program(name)} "$@"\n')
            script.chmod(0o755)
        os.chmod(self.folder, 0o755)
        ports = _free_ports(1 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        lines = [_SLURM_CONF.format(folder=self.folder, host=host, port=ports[0])]
        gpus = []
        for node, port in zip(NODES, ports[1:], strict=True):
            (self.folder / f"spool-{node}").mkdir()
            lines.append(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS_PER_NODE} Boards=1 "
                f"SocketsPerBoard=1 CoresPerSocket={CPUS_PER_NODE} ThreadsPerCore=1 RealMemory={MEMORY_MB} "
                f"Gres=gpu:{GPUS_PER_NODE}"
            )
            for number in range(GPUS_PER_NODE):
                # A device of its own for each, so that Slurm hands out devices and not only a count: all are /dev/null.
                device = self.folder / f"gpu{number}"
                if not device.exists():
                    os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
                gpus.append(f"NodeName={node} Name=gpu File={device}")
        # Nodes stand before partitions.
        nodes, partitions = lines[1:], lines[0].index("PartitionName")
        text = "\n".join([lines[0][:partitions].strip(), *nodes, lines[0][partitions:].strip(), ""])
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text("\n".join(gpus) + "\n")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)

    def _munge_options(self) -> list[str]:
        names = {
            "key-file": "key",
            "socket": "socket",
            "pid-file": "pid",
            "seed-file": "seed",
            "log-file": "log",
        }
        return [f"--{option}={self.folder / f'munge.{ending}'}" for option, ending in names.items()]

    def _start(self, program: str, *arguments: str) -> None:
        with open(self.folder / f"{program}.out", "ab") as output:
            self._daemons.append(
                subprocess.Popen(
                    [_program(program) or program, *arguments],
                    env={**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")},
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )

    def _is_ready(self) -> bool:
        try:
            return self.states() == dict.fromkeys(NODES, "idle")
        except RuntimeError:
            return False

    def _wait(self, is_there, what: str) -> None:
        until = time.monotonic() + _SECONDS_TO_START
        while not is_there():
            if time.monotonic() > until:
                logs = "".join(
                    f"\n--- {file.name}\n{file.read_text(errors='replace')[-1500:]}"
                    for file in sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
                )
                raise RuntimeError(f"{what} did not start within {_SECONDS_TO_START:g} s{logs}")
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
