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
LAUNCHERS = [path.name for path in SCRIPTS if path.name != 'launch.sh']
ANY = Path(__file__)  # some file


def launch(tool, *args, **settings):
    command = ['bash', ROOT / 'tools' / tool, *map(str, args)]
    env = os.environ | {'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''} | settings
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
