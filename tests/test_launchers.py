"""The shell launchers: what they refuse, and training on the CPU under torchrun."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launching import CONFIG, ROOT, SMALL, stand_in
from warm import write_program

pytestmark = pytest.mark.process

SCRIPTS = sorted((ROOT / 'tools').glob('*.sh'))
LAUNCHERS = [path.name for path in SCRIPTS if path.name not in ('launch.sh', 'slurm_job.sh')]
ANY = Path(__file__)  # some file


def launch(tool, *args, **settings):
    command = ['bash', ROOT / 'tools' / tool, *map(str, args)]
    env = (
        {k: v for k, v in os.environ.items() if k != 'MASTER_ADDR'}
        | {'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
        | settings
    )
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)


def refusal(done):
    """The one sentence of a refusal."""
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
    return done.stderr


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.name)
def test_syntax(path):
    subprocess.run(['bash', '-n', path], check=True)


@pytest.mark.parametrize('tool', LAUNCHERS)
def test_usage(tool):
    assert len(LAUNCHERS) == 4
    assert f'tools/{tool} ' in refusal(launch(tool))


@pytest.mark.parametrize(
    ('tool', 'args', 'settings', 'said'),
    [
        ('dist_train.sh', ['no.py', 2], {}, 'There is no config no.py: name an existing file.'),
        ('dist_train.sh', [ANY, 'two'], {}, "must be a whole number of 1 or more, not 'two'"),
        ('dist_train.sh', [ANY, 0], {}, "must be a whole number of 1 or more, not '0'"),
        ('dist_train.sh', [ANY, 2], {'NNODES': '2'}, 'NNODES=2 needs MASTER_ADDR'),
        ('dist_train.sh', [ANY, 2], {'NNODES': '2', 'NODE_RANK': '2'}, 'NODE_RANK=2 is not below NNODES=2'),
        ('dist_train.sh', [ANY, 2], {'MAX_RESTARTS': 'x'}, "MAX_RESTARTS must be a whole number of 0 or more, not 'x'"),
        ('dist_train.sh', [ANY, 2], {'PYTHON': 'no-python'}, 'There is no program no-python: activate'),
        ('dist_test.sh', [ANY, 'no.pth', 2], {}, 'There is no checkpoint no.pth'),
        ('slurm_train.sh', ['part', 'job', 'no.py', 'dir'], {}, 'There is no config no.py'),
        ('slurm_train.sh', ['part', 'job', ANY, 'dir'], {'GPUS': 'x'}, 'GPUS must be a whole number of 1 or more'),
        ('slurm_test.sh', ['part', 'job', ANY, 'no.pth'], {}, 'There is no checkpoint no.pth'),
    ],
)
def test_refusals(tool, args, settings, said):
    assert said in refusal(launch(tool, *args, **settings))


def test_the_script_of_a_job_is_none_for_users():
    assert 'tools/slurm_job.sh RUNS' in refusal(launch('slurm_job.sh', 1, 2, 3, 4, 5))


def fake_slurm(folder):
    """Programs that answer in the place of Slurm's: two partitions, and a note of what was submitted."""
    for name, text in (('sinfo', 'printf "cpu\\ngpu\\n"'), ('srun', 'echo srun "$@"'), ('sbatch', 'echo sbatch "$@"')):
        (folder / name).write_text(f'#!/usr/bin/env bash\n{text}\n')
        (folder / name).chmod(0o755)
    return {'PATH': f'{folder}:{os.environ["PATH"]}', 'GPUS': '2', 'GPUS_PER_NODE': '1', 'CPU': '1', 'CHECK': '0'}


def submit(folder, *args, config=CONFIG, **settings):
    return launch('slurm_train.sh', 'gpu', 'name', config, folder / 'run', *args, **fake_slurm(folder) | settings)


def test_an_unknown_partition_is_told_with_those_there_are(tmp_path):
    done = launch('slurm_train.sh', 'gpu,none', 'name', CONFIG, tmp_path, **fake_slurm(tmp_path))
    assert refusal(done) == 'error: Slurm has no partition none; there are cpu, gpu.\n'
    (tmp_path / 'sinfo').write_text('#!/usr/bin/env bash\nexit 1\n')
    settings = {'PATH': f'{tmp_path}:{os.environ["PATH"]}'}
    assert 'Slurm does not answer to sinfo' in refusal(
        launch('slurm_train.sh', 'gpu', 'name', CONFIG, tmp_path, **settings)
    )


def test_a_job_is_submitted_with_what_lets_it_go_on(tmp_path):
    words = submit(tmp_path, '--amp', BATCH='1', AFTER='7', SRUN_ARGS='--time=60').stdout.split()
    for word in ('sbatch', '--ntasks=2', '--time=60', '--requeue', '--open-mode=append', '--signal=USR1@300'):
        assert word in words
    assert '--dependency=afterok:7' in words and '--kill-on-invalid-dep=yes' in words
    assert not any(word.startswith('--array') for word in words)
    job = words[words.index(f'{ROOT}/tools/slurm_job.sh') + 1 :]
    assert job[:4] == ['1', f'{tmp_path}/run', str(CONFIG), '-'] and job[-2:] == ['--', '--amp']


def test_a_job_that_would_be_refused_is_not_queued(tmp_path):
    program = stand_in(tmp_path, 'echo "$@" >&2; exit 2')
    done = submit(tmp_path, '--amp', BATCH='1', SEEDS='5', CHECK='1', PYTHON=program)
    assert done.returncode == 2 and not done.stdout
    assert f'{CONFIG} --work-dir {tmp_path}/run/seed_5 --resume --check-for 2 --amp' in done.stderr
    assert done.stderr.endswith('--cfg-options randomness.seed=5\n')


def test_the_lead_is_that_which_the_run_has_measured(tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'preemption.json').write_text('{"lead_seconds": 42, "longest_step_seconds": 1.5}')
    assert '--signal=USR1@42 ' in submit(tmp_path).stdout and '--signal=USR1@42 ' in submit(tmp_path, BATCH='1').stdout
    assert '--signal=USR1@7 ' in submit(tmp_path, LEAD='7').stdout
    assert "LEAD must be a whole number of 1 or more, not 'x'" in refusal(submit(tmp_path, LEAD='x'))


@pytest.mark.parametrize(
    ('args', 'seconds'),
    [
        ('--time=1', 60),
        ('-t 4:59', 299),
        ('--qos=x --time 00:05:00', 300),
        ('-t2', 120),
        ('--time=0-0:03', 180),
        ('--time=08:09', 489),
        ('--time=1-2', 93600),
    ],
)
def test_a_job_that_would_be_told_to_stop_at_once_is_refused(tmp_path, args, seconds):
    for batch in '01':
        done = submit(tmp_path, SRUN_ARGS=args, BATCH=batch, LEAD=str(seconds))
        assert f'told to stop {seconds} s before its end, and has only {seconds} s' in refusal(done)
        assert submit(tmp_path, SRUN_ARGS=args, BATCH=batch, LEAD=str(seconds - 1)).returncode == 0
    assert submit(tmp_path, SRUN_ARGS='--time=0 --times=1', LEAD='500').returncode == 0  # 0 is no limit


def need_room(folder, nodes, **settings):
    """Submit where Slurm says that it cannot start the job, to a partition with these nodes."""
    programs = fake_slurm(folder)
    (folder / 'sinfo').write_text(f'#!/usr/bin/env bash\n[[ "$*" = *%R* ]] && echo gpu || printf "{nodes}"\n')
    (folder / 'sbatch').write_text(
        '#!/usr/bin/env bash\n[[ "$*" != *--test-only* ]] && echo ok || { echo no >&2; exit 1; }\n'
    )
    settings = programs | {'BATCH': '1', 'CPUS_PER_TASK': '4'} | settings
    return launch('slurm_train.sh', 'gpu', 'name', CONFIG, folder / 'run', **settings)


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        ({'GPUS': '5', 'GPUS_PER_NODE': '1'}, 'GPUS=5 with GPUS_PER_NODE=1 needs 5 nodes, and partition gpu has 4'),
        ({'GPUS': '3', 'GPUS_PER_NODE': '3'}, '3 tasks of CPUS_PER_TASK=4 need 12 CPUs of a node'),
        ({'GPUS_PER_NODE': '0', 'CPUS_PER_TASK': '9'}, '1 tasks of CPUS_PER_TASK=9 need 9 CPUs'),
        (
            {'GPUS': '8', 'GPUS_PER_NODE': '4', 'CPUS_PER_TASK': '1', 'CPU': '0'},
            'than a node of partition gpu has, 2 at',
        ),
    ],
)
def test_a_job_for_which_a_partition_is_too_small_is_refused(tmp_path, settings, said):
    assert said in refusal(need_room(tmp_path, r'3 8+ gpu:h100:2(S:0-1)\n1 4 (null)\n', **settings))


def test_a_job_that_slurm_cannot_start_now_waits(tmp_path):
    done = need_room(tmp_path, r'4 8 gpu:2\n', GPUS='4', GPUS_PER_NODE='2', CPU='0')
    assert done.stdout == 'ok\n'
    assert done.stderr == 'warning: Slurm cannot start this job now: no. It waits until that changes.\n'


def test_several_configs_and_seeds_are_an_array(tmp_path):
    other = tmp_path / 'other.py'
    other.touch()
    words = submit(tmp_path, config=f'{CONFIG},{other}', BATCH='1', SEEDS='0 3').stdout.split()
    assert '--array=0-3' in words and f'--output={tmp_path}/run/slurm-%A_%a.out' in words
    job = words[words.index(f'{ROOT}/tools/slurm_job.sh') + 1 :]
    assert job[:4] == ['4', f'{tmp_path}/run/quickstart/seed_0', str(CONFIG), '0']
    assert job[10:13] == [f'{tmp_path}/run/other/seed_3', str(other), '3']
    assert "Each of SEEDS must be a whole number of 0 or more, not 'a'" in refusal(
        submit(tmp_path, BATCH='1', SEEDS='a')
    )
    assert 'SEEDS and AFTER are for jobs: set BATCH=1' in refusal(submit(tmp_path, SEEDS='1'))


def run_job(folder, status, task=None, srun='true'):
    """Run the script of a job whose srun ends with a status; what it printed, and what was queued again."""
    programs = folder / 'programs'
    programs.mkdir(exist_ok=True)
    texts = {
        'srun': f'echo "$@" > {folder}/ran; {srun}; exit {status}',
        'scontrol': f'echo "$@" > {folder}/requeued',
        'sleep': 'exit 0',
    }
    for name, text in texts.items():
        (programs / name).write_text(f'#!/usr/bin/env bash\n{text}\n')
        (programs / name).chmod(0o755)
    (folder / 'requeued').unlink(missing_ok=True)
    settings = {'PATH': f'{programs}:{os.environ["PATH"]}', 'SLURM_JOB_ID': '9', 'SLURM_JOB_NODELIST': 'n1'}
    if task is not None:
        settings |= {'SLURM_ARRAY_JOB_ID': '5', 'SLURM_ARRAY_TASK_ID': str(task)}
    runs = [folder / 'a', 'a.py', '-', folder / 'b', 'b.py', 3]
    done = launch('slurm_job.sh', 2, *runs, 'python', '-u', 'train.py', '--', '--amp', 'x y', **settings)
    requeued = folder / 'requeued'
    return done, requeued.read_text() if requeued.exists() else ''


def test_a_job_runs_its_task_of_an_array(tmp_path):
    done, requeued = run_job(tmp_path, 0, task=1)
    assert done.returncode == 0 and not requeued
    expected = f'python -u train.py b.py --work-dir {tmp_path}/b --launcher slurm --resume --amp x y --cfg-options'
    assert (tmp_path / 'ran').read_text() == f'--kill-on-bad-exit=1 {expected} randomness.seed=3\n'
    assert run_job(tmp_path, 85, task=1)[1] == 'requeue 5_1\n'


@pytest.mark.parametrize('status', [85, 86, 137, 143])
def test_a_job_that_was_stopped_is_queued_again_but_not_for_ever(tmp_path, status):
    for _ in range(2):
        done, requeued = run_job(tmp_path, status)
        assert done.returncode == status and requeued == 'requeue 9\n'
    done, requeued = run_job(tmp_path, status)
    assert 'before its first step, as the two times before: it is not queued again' in done.stderr and not requeued


@pytest.mark.parametrize('status', [86, 143])
def test_a_job_of_which_a_process_failed_is_not_queued_again_though_srun_killed_the_others(tmp_path, status):
    done, requeued = run_job(tmp_path, status, srun='echo "UserError: no" > "$FAILURE_NOTE"')
    assert done.returncode == 1 and not requeued
    assert done.stderr.endswith('job 9 is not queued again, as it would fail again: UserError: no\n')
    assert run_job(tmp_path, status)[1] == 'requeue 9\n'  # the note is of that start alone
    assert run_job(tmp_path, 85, srun='echo no > "$FAILURE_NOTE"')[1] == 'requeue 9\n'


@pytest.mark.parametrize('status', [1, 2])
def test_a_job_that_failed_is_not_queued_again(tmp_path, status):
    done, requeued = run_job(tmp_path, status, srun='echo no > "$FAILURE_NOTE"')
    assert not list((tmp_path / 'a').glob('.failure*'))
    assert done.returncode == status and not requeued


def test_no_srun(tmp_path):
    for name in ('bash', 'dirname'):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = launch('slurm_train.sh', 'part', 'job', ANY, 'dir', PATH=str(tmp_path))
    assert 'There is no program srun' in refusal(done)


def test_several_machines(tmp_path):
    program = stand_in(tmp_path, 'printf "%s\\n" "$@"')
    settings = {'NNODES': '2', 'NODE_RANK': '1', 'MASTER_ADDR': 'first', 'PORT': '1234', 'PYTHON': program}
    done = launch('dist_train.sh', CONFIG, 4, '--amp', **settings)
    options = ['--nproc-per-node=4', '--nnodes=2', '--node-rank=1', '--master-addr=first', '--master-port=1234']
    tool = [f'{ROOT}/tools/train.py', str(CONFIG), '--launcher', 'pytorch', '--amp']
    assert done.stdout.splitlines() == ['-m', 'torch.distributed.run', *options, *tool]


def test_restarts(tmp_path):
    program = stand_in(tmp_path, 'printf "%s\\n" "$@"')
    done = launch('dist_train.sh', CONFIG, 8, '--work-dir', 'runs/large', PYTHON=program, MAX_RESTARTS='3')
    options = ['--nproc-per-node=8', '--max-restarts=3', '--standalone']
    tool = [f'{ROOT}/tools/train.py', str(CONFIG), '--launcher', 'pytorch', '--work-dir', 'runs/large']
    assert done.stdout.splitlines() == ['-m', 'torch.distributed.run', *options, *tool]


def test_training_and_validation_on_the_cpu(tmp_path):
    """96 images in batches of 4 over two processes: 12 steps an epoch."""
    python = dict.fromkeys(('PYTHON', 'PYTHON_EXEC'), write_program(tmp_path))  # of the scripts and of torchrun
    done = launch('dist_train.sh', CONFIG, 2, '--work-dir', tmp_path, '--cfg-options', *SMALL, **python)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    checkpoint = tmp_path / 'epoch_3.pth'
    logged = [json.loads(line) for file in tmp_path.glob('*/vis_data/scalars.json') for line in file.open()]
    validated = [line for line in logged if 'val/loss_pixel' in line]
    assert validated[-1]['step'] == 36
    out = tmp_path / 'losses.json'
    done = launch('dist_test.sh', CONFIG, checkpoint, 2, '--work-dir', tmp_path / 'test', '--out', out, **python)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert json.loads(out.read_text())['loss_pixel'] == pytest.approx(validated[-1]['val/loss_pixel'], abs=1e-6)
