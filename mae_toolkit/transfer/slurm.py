"""Submit a Slurm job per run, each after the job of the pretraining that it needs.

Like the launchers in ``tools/``, this writes a plain script and calls Slurm's own programs.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mae_toolkit.engine.lead_time import read_lead_time
from mae_toolkit.engine.locks import lock_folder
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.transfer.job import DONE, FAILURE, LOG, QUEUE, QUEUED, RUNNING, Job, slug
from mae_toolkit.transfer.plan import Plan
from mae_toolkit.transfer.run_records import SlurmJob
from mae_toolkit.transfer.worker import now

LEAD = 300  # seconds before its end in which a job is told to stop, until its run has measured what it needs
HEAD = """#!/usr/bin/env bash
# Made by tools/transfer.py; it may be submitted again as it is.
set -eu
cd {cwd}
export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{cpus}}}
"""
# Slurm tells the script that its time ends; it tells the training, which saves its step and ends with status 85.
SCRIPT = (
    HEAD
    + """worker= told= status=0
trap 'told=1; [ -z "$worker" ] || kill -USR1 "$worker" || true' USR1
{python} -u -m mae_toolkit.transfer.worker {folder} &
worker=$!
[ -z "$told" ] || kill -USR1 "$worker" || true
wait "$worker" || status=$?
while [ $status -gt 128 ] && kill -0 "$worker" 2>/dev/null; do
    status=0
    wait "$worker" || status=$?
done
# Told to stop (138 is SIGUSR1 before the worker could note it), or a process was lost.
if {{ [ $status = 85 ] || [ $status = 86 ] || [ $status = 138 ]; }} && [ -n "${{SLURM_JOB_ID:-}}" ]; then
    scontrol requeue "$SLURM_JOB_ID" # before the script ends, so that jobs that wait for it keep waiting
    sleep 60                         # until Slurm ends this script
fi
exit $status
"""
)
TABLE = HEAD + 'exec {python} -u {root}/tools/transfer.py table {file}\n'
TABLE_SCRIPT, TABLE_LOG = 'table.sh', 'table.log'  # in the work directory


def find_queued_jobs() -> set[str]:
    """Find the numbers of the jobs that Slurm has, running or waiting; none where there is no Slurm."""
    if shutil.which('squeue') is None:
        return set()
    done = subprocess.run(['squeue', '--noheader', '--format=%A'], capture_output=True, text=True, timeout=60)
    return set(done.stdout.split()) if done.returncode == 0 else set()


def submit_plan(plan: Plan, partition: str, say: Callable[[str], object] = print) -> None:
    """Submit a job for every run of a plan that is neither done, nor running, nor queued, and one for the table.

    Jobs go on by themselves after a time limit or a preemption. The table is written once all runs have ended, those
    that failed among them.

    The environment is that of ``tools/slurm_train.sh``: GPUS (1, or 0; CPU=1 means 0), CPUS_PER_TASK (5), SRUN_ARGS
    (further options, to sbatch), PYTHON.

    Args:
        plan: The runs.
        partition: Where they are to run.
        say: Function that gets a line on what was submitted.

    Raises:
        UserError: If there is no Slurm, it refuses a job, or another process is submitting.
    """
    options = _options(partition)
    with lock_folder(plan.experiment.work_dir) as free:
        if not free:
            raise UserError(f'Another process submits the jobs of {plan.experiment.work_dir}: wait for it.')
        queued = find_queued_jobs()
        todo = [job for job in plan.todo(queued) if job.state(queued) not in (QUEUED, RUNNING)]
        for job in todo:
            _submit(job, options)
        if todo:
            _submit_table(plan, options)
    say(f'{len(todo)} jobs were submitted to {partition}; the others are done, running or queued.')
    if todo:
        say(f'The table follows them, its text is in {plan.experiment.work_dir / TABLE_LOG}.')


def _submit_table(plan: Plan, options: list[str]) -> None:
    """Submit the job that writes the table once the jobs of all runs have ended, however they ended."""
    work_dir = plan.experiment.work_dir
    submitted = [SlurmJob.read(job.folder / QUEUE) for job in plan.jobs if job.state() != DONE]
    numbers = [record.number for record in submitted if record is not None]
    script = work_dir / TABLE_SCRIPT
    atomic_write(script, TABLE.format(**_script_values(), file=shlex.quote(str(plan.experiment.path))))
    command = ['sbatch', '--parsable', '--job-name=table', f'--output={work_dir.resolve() / TABLE_LOG}']
    command += [*options, f'--dependency=afterany:{":".join(numbers)}', str(script)]
    _call_sbatch(command)


def _submit(job: Job, options: list[str]) -> None:
    """Submit a job and note its number."""
    job.prepare()
    (job.folder / FAILURE).unlink(missing_ok=True)
    script = job.folder / 'job.sh'
    atomic_write(script, _script(job))
    command = ['sbatch', '--parsable', f'--job-name={slug(job.folder.name)}', f'--output={job.folder.resolve() / LOG}']
    lead = read_lead_time(job.folder / 'train') or LEAD
    command += ['--open-mode=append', '--requeue', f'--signal=B:USR1@{lead}', *options, *_dependency(job), str(script)]
    SlurmJob(_call_sbatch(command), now()).write(job.folder / QUEUE)


def _call_sbatch(command: list[str]) -> str:
    """Submit a job, and return its number.

    Raises:
        UserError: If Slurm refuses it.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise UserError(f'sbatch refused a job: {" ".join(done.stderr.split())}')
    return done.stdout.strip().split(';')[0]


def _options(partition: str) -> list[str]:
    """Make the options of every job from the environment."""
    if shutil.which('sbatch') is None:
        raise UserError('There is no program sbatch: start this where Slurm is installed, or leave out --slurm.')
    gpus = '0' if os.environ.get('CPU') == '1' else os.environ.get('GPUS', '1')
    if gpus not in ('0', '1'):
        raise UserError(f'GPUS={gpus}: a run takes one GPU or none, so that its batch is that of the config.')
    cpus = _cpus()
    more = shlex.split(os.environ.get('SRUN_ARGS', ''))
    gres = ['--gres=gpu:1'] if gpus == '1' else []
    return [f'--partition={partition}', '--ntasks=1', f'--cpus-per-task={cpus}', *gres, *more]


def _cpus() -> int:
    cpus = os.environ.get('CPUS_PER_TASK', '5')
    if not cpus.isdigit() or int(cpus) < 1:
        raise UserError(f'CPUS_PER_TASK must be a whole number of 1 or more, not {cpus!r}.')
    return int(cpus)


def _script(job: Job) -> str:
    return SCRIPT.format(**_script_values(), folder=shlex.quote(str(job.folder)))


def _script_values() -> dict[str, object]:
    root = Path(__file__).resolve().parents[2]
    values = {'cwd': os.getcwd(), 'root': root, 'python': os.environ.get('PYTHON', sys.executable)}
    return {name: shlex.quote(str(value)) for name, value in values.items()} | {'cpus': _cpus()}


def _dependency(job: Job) -> list[str]:
    """Let a job begin after its pretraining, if that has yet to end; if it fails, Slurm removes the job."""
    if job.needs is None or job.needs.state() == DONE:
        return []
    submitted = SlurmJob.read(job.needs.folder / QUEUE)
    if submitted is None:
        raise UserError(f'{job.needs.folder} is being pretrained outside of Slurm: wait for it, then call this again.')
    return [f'--dependency=afterok:{submitted.number}', '--kill-on-invalid-dep=yes']
