"""A Slurm of our own on this host, for tests: munged, slurmctld and two slurmd, each with stand-in GPUs."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ('munged', 'munge', 'unmunge', 'slurmctld', 'slurmd', 'srun', 'sbatch', 'sinfo', 'squeue', 'scontrol')
NODES = ('n1', 'n2')
CPUS = 4  # per node; as many as are declared, not as many as there are
GPUS = 2  # per node; the null device under another name
PARTITION = 'test'
URGENT = 'urgent'  # its jobs preempt those of the other one, which are queued again

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
MpiDefault=none
GresTypes=gpu
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName={partition} Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName={urgent} Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
"""


def why_not():
    """Why no Slurm can be started here, or None."""
    missing = [name for name in PROGRAMS if which(name) is None]
    if missing:
        return f'Slurm is not installed: no {", ".join(missing)} (apt-get install slurm-wlm munge)'
    return 'a Slurm of our own must be started by root' if os.geteuid() else None


def which(name):
    """Path of a program; daemons may lie outside the search path of users."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get('PATH', ''), '/usr/sbin', '/sbin']))


@contextlib.contextmanager
def slurm_cluster():
    """A running cluster: yields the environment in which srun finds it.

    Raises:
        RuntimeError: If it is not up within five minutes, with the end of its logs.
    """
    folder = Path(tempfile.mkdtemp(prefix='slurm-'))  # short: a socket's path has at most 107 characters
    try:
        write_config(folder)
        env = {**os.environ, 'SLURM_CONF': str(folder / 'slurm.conf'), 'MASTER_ADDR': '127.0.0.1'}
        start(folder, env)
        yield env
    finally:
        stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def write_config(folder):
    """Write keys, settings and stand-in devices into ``folder``."""
    key = folder / 'munge.key'
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    (folder / 'state').mkdir()
    for number in range(GPUS):
        os.mknod(folder / f'gpu{number}', 0o020666, os.makedev(1, 3))
    host = socket.gethostname().split('.')[0]
    controller_port, *ports = free_ports(1 + len(NODES))
    nodes = '\n'.join(
        f'NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} Gres=gpu:{GPUS} State=UNKNOWN'
        for name, port in zip(NODES, ports, strict=True)
    )
    text = CONFIG.format(
        folder=folder, host=host, controller_port=controller_port, nodes=nodes, partition=PARTITION, urgent=URGENT
    )
    (folder / 'slurm.conf').write_text(text)
    (folder / 'gres.conf').write_text(f'Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n')


def free_ports(count):
    """So many ports that are free now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(('127.0.0.1', 0))
        return [one.getsockname()[1] for one in sockets]


def start(folder, env):
    """Start the daemons and wait until both nodes are idle."""
    parts = {'key': 'key-file', 'pid': 'pid-file', 'log': 'log-file', 'seed': 'seed-file', 'socket': 'socket'}
    options = [f'--{option}={folder}/munge.{part}' for part, option in parts.items()]
    launch([which('munged'), '--force', *options], env)
    wait_for(folder, lambda: munge_answers(folder))
    launch([which('slurmctld')], env)
    for name in NODES:
        launch([which('slurmd'), '-N', name], env)
    wait_for(folder, lambda: idle_nodes(env) == sorted(NODES))


def launch(command, env):
    """Run a daemon, which goes to the background once it stands."""
    subprocess.run(command, env=env, check=True, timeout=300, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def munge_answers(folder):
    """Whether a credential can be made and read."""
    made = subprocess.run([which('munge'), '-n', '-S', folder / 'munge.socket'], capture_output=True)
    read = subprocess.run([which('unmunge'), '-S', folder / 'munge.socket'], input=made.stdout, capture_output=True)
    return made.returncode == read.returncode == 0


def idle_nodes(env):
    """Names of the nodes that wait for work, sorted."""
    states = subprocess.run([which('sinfo'), '-hN', '-o', '%N %t'], env=env, capture_output=True, text=True).stdout
    return sorted({line.split()[0] for line in states.splitlines() if line.split()[1] == 'idle'})


def wait_for(folder, condition, seconds=300):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            logs = '\n'.join(f'{path.name}: {path.read_text()[-2000:]}' for path in sorted(folder.glob('*.log')))
            raise RuntimeError(f'Slurm is not up after {seconds} s.\n{logs}')
        time.sleep(0.2)


def stop(folder):
    """Stop what the pid files name, and nothing else; munged last, as the others speak through it."""
    munge, others = [], []
    for path in folder.glob('*.pid'):
        with contextlib.suppress(ValueError, FileNotFoundError):
            (munge if path.stem == 'munge' else others).append(int(path.read_text()))
    end(others)
    end(munge)


def end(pids, seconds=2):
    """End processes politely, all at once, and for certain after so many seconds."""
    signal_all(pids, signal.SIGTERM)
    for _ in range(seconds * 10):
        if not any(alive(pid) for pid in pids):
            return
        time.sleep(0.1)
    signal_all(pids, signal.SIGKILL)


def signal_all(pids, number):
    """Send a signal to those of the processes that there are still."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def alive(pid):
    """Whether a process runs; one that has ended and whose parent has not asked yet does not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False
