"""Submission to Slurm with programs that stand in for it; tests/test_transfer_slurm.py runs a real one."""

import json
import os
import signal
import subprocess

import pytest

from mae_toolkit.errors import UserError
from mae_toolkit.transfer.experiment import read_experiment
from mae_toolkit.transfer.job import FAILED, QUEUED
from mae_toolkit.transfer.plan import make_plan
from mae_toolkit.transfer.run_records import Failure, SlurmJob
from mae_toolkit.transfer.slurm import find_queued_jobs, submit_plan
from transfer_toy import make_toys, write
from warm import write_program

pytestmark = pytest.mark.process

SBATCH = """#!/usr/bin/env bash
[[ "$*" != *--partition=none* ]] || { echo 'sbatch: error: invalid partition specified: none' >&2; exit 1; }
printf '%s\\n' "$*" >> calls
grep -c . calls
"""
SQUEUE = '#!/usr/bin/env bash\n[ -e gone ] || seq "$(grep -c . calls)"\n'


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """The plan of the toys, in whose folder Slurm's programs write down their calls."""
    monkeypatch.chdir(make_toys(tmp_path / 'toys'))
    monkeypatch.syspath_prepend(tmp_path / 'toys')
    (tmp_path / 'bin').mkdir()
    for name, text in (('sbatch', SBATCH), ('squeue', SQUEUE)):
        (tmp_path / 'bin' / name).write_text(text)
        (tmp_path / 'bin' / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}')
    monkeypatch.setenv('CPU', '1')
    monkeypatch.setenv('SRUN_ARGS', '--time 5 --qos "a b"')
    plan = make_plan(read_experiment(write(tmp_path / 'toys', seeds=[0])))
    assert not plan.mistakes
    return plan


def test_runs_are_submitted_once_and_after_their_pretraining(plan, tmp_path):
    said = []
    submit_plan(plan, 'part', said.append)
    pretraining, scratch, mae, table = (tmp_path / 'toys/calls').read_text().splitlines()
    for call in (pretraining, scratch, mae):
        assert '--parsable' in call and '--partition=part --ntasks=1 --cpus-per-task=5 --time 5 --qos a b' in call
        assert '--gres' not in call
    assert '--dependency=afterok:1 --kill-on-invalid-dep=yes' in mae and '--dependency' not in scratch + pretraining
    assert all('--requeue --signal=B:USR1@300' in call for call in (pretraining, scratch, mae))
    assert '--dependency=afterany:' in table and '--requeue' not in table
    assert sorted(table.split('afterany:')[1].split()[0].split(':')) == ['2', '3']  # the runs, after their pretraining
    assert 'tools/transfer.py table' in (tmp_path / 'toys/work/table.sh').read_text()
    assert said[0] == '3 jobs were submitted to part; the others are done, running or queued.'
    assert said[1].startswith('The table follows them') and len(said) == 2
    jobs = {job.record.encoder: job for job in plan.jobs}
    assert SlurmJob.read(jobs['MAE'].folder / 'slurm.json').number == '3'
    assert jobs['scratch'].state(find_queued_jobs()) == jobs['MAE'].state(find_queued_jobs()) == QUEUED
    submit_plan(plan, 'part', said.append)
    assert said[-1].startswith('0 jobs')
    (tmp_path / 'toys/gone').touch()
    assert jobs['scratch'].state(find_queued_jobs()) == FAILED


def test_the_script_of_a_job_does_it(plan, tmp_path, monkeypatch):
    """It is submitted as it is: it works in any folder, and what fails is written down."""
    monkeypatch.setenv('PYTHON', write_program(tmp_path))
    submit_plan(plan.only(['encoder=scratch']), 'part', lambda _: None)
    (job,) = plan.only(['encoder=scratch']).jobs
    (job.folder / 'job.json').write_text('{}')
    done = subprocess.run(['bash', job.folder / 'job.sh'], capture_output=True, text=True, timeout=600)
    assert done.returncode == 2 and 'job.json is damaged (it lacks' in done.stderr
    assert 'job.json is damaged' in Failure.read(job.folder / 'failure.json').last_lines[-1]


@pytest.mark.parametrize(('signaled', 'status'), [(False, 3), (True, 85), (True, 138)])
def test_a_job_that_is_told_to_stop_is_queued_again(plan, tmp_path, monkeypatch, signaled, status):
    """The script hands the signal on, also to a worker that does not note it yet, and waits for what follows."""
    trap = 'trap "echo saved; exit 85" USR1; ' if status == 85 else ''
    text = f'{trap}echo began; for i in $(seq 600); do sleep 0.1; done'
    program = tmp_path / 'python'
    program.write_text(f'#!/usr/bin/env bash\n{text}\n' if signaled else '#!/usr/bin/env bash\nexit 3\n')
    program.chmod(0o755)
    scontrol = tmp_path / 'bin' / 'scontrol'
    scontrol.write_text(f'#!/usr/bin/env bash\necho "$@" > {tmp_path}/requeued\n')
    scontrol.chmod(0o755)
    (tmp_path / 'bin' / 'sleep').write_text('#!/usr/bin/env bash\n[ "$1" = 60 ] || exec /bin/sleep "$@"\n')
    (tmp_path / 'bin' / 'sleep').chmod(0o755)
    monkeypatch.setenv('PYTHON', str(program))
    monkeypatch.setenv('SLURM_JOB_ID', '9')
    submit_plan(plan.only(['encoder=scratch']), 'part', lambda _: None)
    (job,) = plan.only(['encoder=scratch']).jobs
    script = subprocess.Popen(['bash', job.folder / 'job.sh'], stdout=subprocess.PIPE, text=True)
    if signaled:
        assert script.stdout.readline() == 'began\n'
        script.send_signal(signal.SIGUSR1)
        assert script.stdout.read() == ('saved\n' if status == 85 else '')
    assert script.wait(60) == status
    assert (tmp_path / 'requeued').exists() == signaled


def test_refusals_of_slurm_and_of_the_environment(plan, monkeypatch):
    with pytest.raises(UserError, match='sbatch refused a job: sbatch: error: invalid partition specified: none'):
        submit_plan(plan, 'none')
    for name, value, said in (
        ('CPUS_PER_TASK', 'two', "whole number of 1 or more, not 'two'"),
        ('PATH', '/nowhere', 'There is no program sbatch'),
    ):
        with monkeypatch.context() as context:
            context.setenv(name, value)
            with pytest.raises(UserError, match=said):
                submit_plan(plan, 'part')
    monkeypatch.delenv('CPU')
    monkeypatch.setenv('GPUS', '2')
    with pytest.raises(UserError, match='GPUS=2: a run takes one GPU or none'):
        submit_plan(plan, 'part')


def test_the_number_of_a_job_is_read_as_earlier_versions_wrote_it(tmp_path):
    (tmp_path / 'slurm.json').write_text(json.dumps({'job': '17', 'time': 't'}))
    assert SlurmJob.read(tmp_path / 'slurm.json') == SlurmJob('17', 't')
