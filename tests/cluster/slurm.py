"""A SLURM of one node on this machine: real daemons, with all their state in one folder."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.patience import PATIENCE

SYSTEM_CONF = Path("/etc/slurm/slurm.conf")
"""Where jobs find the configuration: Snakemake's job step drops all variables SLURM_*."""

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
PACKAGES = "slurmctld slurmd slurm-client munge"

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={munge}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=2
# Jobs start as soon as they can.
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
# A job over its memory is ended, without control groups: looked at every second.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
# No accounting: squeue knows ended jobs for an hour.
AccountingStorageType=accounting_storage/none
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=12:00:00 DefMemPerCPU=500 State=UP
"""


@dataclass(frozen=True)
class Job:
    """A job as SLURM remembers it."""

    number: str
    state: str
    task: str  # rule and wildcards
    mem_mb: int

    @property
    def rule(self) -> str:
        return self.task.split("_wildcards_")[0]


def why_not() -> str | None:
    """Why no SLURM can be started here; None where one can."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"no {', '.join(missing)}: apt-get install {PACKAGES}"
    if os.geteuid() != 0:
        return "only root can start a SLURM"
    if SYSTEM_CONF.exists():
        return f"{SYSTEM_CONF} exists: there is a SLURM already, or a killed test left its link"
    return None


@dataclass(frozen=True)
class Slurm:
    """A running SLURM."""

    cpus: int
    memory: int

    def jobs(self, rule: str | None = None) -> list[Job]:
        """All jobs so far, ended ones too, oldest first; only those of a rule where it is named."""
        table = said("squeue", "--states=all", "--noheader", "--sort=i", "--format=%A|%T|%k|%m")
        jobs_done = []
        for line in table.splitlines():
            number, state, comment, memory = line.strip().split("|")
            # Snakemake's comment: rule_NAME_wildcards_VALUES.
            jobs_done.append(Job(number, state, comment.removeprefix("rule_"), megabytes(memory)))
        return [job for job in jobs_done if rule in (None, job.rule)]

    def cancel(self, job: Job) -> None:
        said("scancel", job.number)

    def cancel_all(self) -> None:
        """End every job, and wait until none is left."""
        said("scancel", "--user=root")
        wait_for(lambda: not said("squeue", "--noheader"), "the jobs to end", PATIENCE)


def megabytes(text: str) -> int:
    """
    >>> megabytes("600M"), megabytes("3G")
    (600, 3072)
    """
    return int(float(text.rstrip("MG")) * (1024 if text.endswith("G") else 1))


def said(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def wait_for(condition: Callable[[], object], what: str, timeout: float) -> None:
    """Wait until something holds, or fail by saying what did not."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(0.2)


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def daemon(*command: str, log: Path) -> Iterator[None]:
    """A server in the foreground of a process of its own, ended with the block."""
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def as_system_conf(conf: Path) -> Iterator[None]:
    """The configuration at the place where every program looks for it."""
    SYSTEM_CONF.parent.mkdir(exist_ok=True)
    SYSTEM_CONF.unlink(missing_ok=True)  # a link that an interrupted test left behind
    SYSTEM_CONF.symlink_to(conf)
    try:
        yield
    finally:
        SYSTEM_CONF.unlink()


@contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """A SLURM whose state lies in a new folder; its jobs and servers end with the block."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    key, socket_path, conf = folder / "munge.key", folder / "munge.sock", folder / "slurm.conf"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    host = socket.gethostname().split(".")[0]
    node = re.search(r"RealMemory=(\d+)", said("slurmd", "-C"))
    assert node is not None
    slurm = Slurm(cpus=len(os.sched_getaffinity(0)), memory=int(node[1]))
    controller_port, node_port = free_ports(2)
    conf.write_text(
        CONF.format(
            host=host, folder=folder, munge=socket_path, controller_port=controller_port,
            node_port=node_port, cpus=slurm.cpus, memory=slurm.memory,
        )
    )  # fmt: skip
    munge = [
        "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_path}",
        f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munge.log",
        f"--seed-file={folder}/munge.seed",
    ]  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(as_system_conf(conf))
        stack.enter_context(daemon(*munge, log=folder / "munged.log"))
        wait_for(socket_path.exists, "munged", PATIENCE)
        stack.enter_context(daemon("slurmctld", "-D", log=folder / "slurmctld.log"))
        stack.enter_context(daemon("slurmd", "-D", "-N", host, log=folder / "slurmd.log"))
        wait_for(node_is_idle, f"the node: see {folder}/slurmd.log", PATIENCE)
        stack.callback(slurm.cancel_all)
        yield slurm


def node_is_idle() -> bool:
    shown = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)
    return shown.stdout.strip() == "idle"
