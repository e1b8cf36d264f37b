"""Jobs that are disturbed, under a real Slurm: each is queued again and ends with the weights of an undisturbed run."""

import os
import signal
import subprocess
import time
from datetime import datetime, timedelta

import pytest
import torch

from launching import ROOT
from mae_toolkit.checkpoints.files import load, newest_checkpoint
from slurm_cluster import PARTITION, URGENT, slurm_cluster, why_not
from tiny import QUICKSTART, options
from warm import write_program

pytestmark = [pytest.mark.process, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

SECONDS = 300  # far above what a slow machine takes
MINUTE = '00:01:00'
# Two epochs of six steps, in two processes. In its first start, a job waits in the second epoch until it is disturbed.
CONFIG = f"""
_base_ = ['{QUICKSTART}']
custom_imports = dict(imports=['waiting'])
default_hooks = dict(waiting=dict(type='WaitingHook'))
"""
WAITING = """
import os, time
from pathlib import Path
from mmengine.hooks import Hook
from mae_toolkit.engine.hooks import PreemptionHook
from mae_toolkit.registry import HOOKS

@HOOKS.register_module()
class WaitingHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter != 8 or 'undisturbed' in runner.work_dir or os.environ.get('SLURM_RESTART_COUNT', '0') != '0':
            return
        (request,) = [hook._request for hook in runner.hooks if isinstance(hook, PreemptionHook)]
        part = Path(runner.work_dir, f'{runner.rank}.part')
        part.write_text(str(os.getpid()))
        part.rename(part.with_suffix('.waits'))
        while request.signal is None:
            time.sleep(0.02)
"""


def call(env, *command):
    done = subprocess.run([str(word) for word in command], env=env, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_for(condition, describe):
    end = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, describe()
        time.sleep(0.1)
    return found


class Job:
    """A job of slurm_train.sh."""

    def __init__(self, env, folder, **settings):
        self.env, self.folder = env, folder
        changes = {'train_dataloader__batch_size': 8, 'val_dataloader': 'None', 'val_cfg': 'None'}
        command = [ROOT / 'tools' / 'slurm_train.sh', PARTITION, 'a-test', folder.parent / 'small.py', folder]
        self.number = call(env | settings, 'bash', *command, *options(**changes)).split()[-1]

    def processes(self):
        """The processes of both tasks, once they wait."""

        def found():
            assert self.state()['JobState'] in ('PENDING', 'RUNNING'), self.describe()
            paths = list(self.folder.glob('*.waits'))
            return paths if len(paths) == 2 else None

        return {path.stem: int(path.read_text()) for path in wait_for(found, self.describe)}

    def state(self):
        """What Slurm says of it."""
        text = call(self.env, 'scontrol', 'show', 'job', '--oneliner', self.number)
        return dict(field.partition('=')[::2] for field in text.split())

    def hurry(self):
        """Let it start as soon as it may; Slurm looks only every 30 s. Before, nodes refuse it: cred_expire."""
        state = self.state()
        is_waiting = state['JobState'] == 'PENDING' and state['Reason'] == 'BeginTime'
        if is_waiting and datetime.fromisoformat(state['EligibleTime']) < datetime.now() - timedelta(seconds=1):
            call(self.env, 'scontrol', 'update', f'JobId={self.number}', 'StartTime=now')
        return state

    def describe(self):
        logs = '\n'.join(path.read_text() for path in self.folder.glob('slurm-*.out'))
        return f'{self.state()}\n{logs}'

    def has_ended(self):
        """Whether it has; one that was queued again is let start, with the time that it needs."""
        state = self.hurry()
        if state['Restarts'] == '1' and state['TimeLimit'] == MINUTE:
            call(self.env, 'scontrol', 'update', f'JobId={self.number}', 'TimeLimit=UNLIMITED')
        return state['JobState'] in ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL')

    def weights(self, starts):
        """Its weights once it has ended, which must be well and after so many starts."""
        wait_for(self.has_ended, self.describe)
        state = self.state()
        assert (state['JobState'], state['Restarts']) == ('COMPLETED', str(starts - 1)), self.describe()
        last = newest_checkpoint(self.folder)
        assert last.name == 'epoch_2.pth' and not list(self.folder.glob('iter_*.pth'))
        return load(last)['state_dict']


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    """A Slurm whose jobs are forks of a process that has imported the toolkit: what is tested is how they end."""
    folder = tmp_path_factory.mktemp('jobs')
    (folder / 'small.py').write_text(CONFIG)
    (folder / 'waiting.py').write_text(WAITING)
    with slurm_cluster() as env:
        settings = {
            'GPUS': '2',
            'GPUS_PER_NODE': '0',
            'CPUS_PER_TASK': '1',
            'OMP_NUM_THREADS': '1',
            'BATCH': '1',
            'CHECK': '0',
        }
        python = write_program(folder, 'mae_toolkit.apis', 'mae_toolkit.models')
        yield {**env, **settings, 'PYTHON': python, 'PYTHONPATH': str(folder), 'CUDA_VISIBLE_DEVICES': ''}, folder


def have_all_ended(jobs):
    """Whether all have; each is asked, as each must be let start again."""
    ended = [job.has_ended() for job in jobs]
    return all(ended)


def preempt(job):
    call(job.env, 'srun', '-Q', f'--partition={URGENT}', '--nodes=2', '--exclusive', 'true')


def let_it_reach_its_limit(job):
    """Slurm looks after limits every 30 s; the job is told LEAD seconds before its end, or up to 60 s earlier."""
    call(job.env, 'scontrol', 'update', f'JobId={job.number}', 'TimeLimit=1')
    assert job.state()['TimeLimit'] == MINUTE


def kill_a_rank(job):
    os.kill(job.processes()['1'], signal.SIGKILL)


def drain_its_node(job):
    call(job.env, 'scontrol', 'update', f'NodeName={job.state()["BatchHost"]}', 'State=DRAIN', 'Reason=a-test')
    call(job.env, 'scontrol', 'requeue', job.number)


def test_disturbed_jobs_end_with_the_same_weights(cluster):
    """Side by side, as each waits for Slurm most of the time; the urgent job would disturb all, and comes before."""
    env, folder = cluster
    undisturbed = Job(env, folder / 'undisturbed')
    jobs = {preempt: Job(env, folder / 'preempt')}
    jobs[preempt].processes()
    expected = undisturbed.weights(starts=1)
    preempt(jobs[preempt])
    others = (let_it_reach_its_limit, kill_a_rank, drain_its_node)
    jobs |= {disturb: Job(env, folder / disturb.__name__, LEAD='60') for disturb in others}
    for disturb in others:
        jobs[disturb].processes()
        disturb(jobs[disturb])
    wait_for(lambda: have_all_ended(jobs.values()), lambda: '\n\n'.join(job.describe() for job in jobs.values()))
    for disturb, job in jobs.items():
        weights = job.weights(starts=2)
        different = [name for name, value in expected.items() if not torch.equal(value, weights[name])]
        assert not different, f'{disturb.__name__}: {different}'
