"""The Slurm launchers, under a real Slurm of two nodes on this host."""

import json
import subprocess
import time

import pytest
import torch

from launching import CONFIG, ROOT, SMALL, stand_in
from slurm_cluster import PARTITION, alive, slurm_cluster, why_not
from warm import write_program

pytestmark = [pytest.mark.process, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

ON_TWO_NODES = {'GPUS': '2', 'GPUS_PER_NODE': '1', 'CPUS_PER_TASK': '1', 'OMP_NUM_THREADS': '1'}


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    with slurm_cluster() as env:
        yield {**env, **ON_TWO_NODES, 'PYTHON': write_program(tmp_path_factory.mktemp('python'))}


def launch(tool, env, *args, **settings):
    command = ['bash', ROOT / 'tools' / tool, PARTITION, 'a-test', CONFIG, *args]
    return subprocess.run(command, env=env | settings, capture_output=True, text=True, timeout=6000)


@pytest.fixture(scope='module')
def trained(cluster, tmp_path_factory):
    """Work directory of a run of two tasks, one on each node, with no GPU to see."""
    folder = tmp_path_factory.mktemp('run')
    done = launch('slurm_train.sh', cluster, folder, '--cfg-options', *SMALL, CPU='1', CUDA_VISIBLE_DEVICES='')
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def test_training_on_two_nodes(trained):
    """96 images in batches of 4: the two tasks share them, 12 steps an epoch."""
    last = (trained / 'last_checkpoint').read_text()
    checkpoint = torch.load(last, weights_only=False)
    assert checkpoint['meta']['epoch'] == 3 and checkpoint['meta']['iter'] == 36
    logged = [json.loads(line) for file in trained.glob('*/vis_data/scalars.json') for line in file.open()]
    losses = [line['train/loss'] for line in logged if 'train/loss' in line]
    assert losses and losses[-1] < losses[0]


def test_validation_on_two_nodes(cluster, trained, tmp_path):
    checkpoint = (trained / 'last_checkpoint').read_text()
    found = {}
    for tasks in ('1', '2'):
        args = ['--work-dir', tmp_path / tasks, '--out', tmp_path / f'{tasks}.json']
        done = launch('slurm_test.sh', cluster, checkpoint, *args, GPUS=tasks, CPU='1', CUDA_VISIBLE_DEVICES='')
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert done.stdout.count('loss_pixel: ') == 1
        found[tasks] = json.loads((tmp_path / f'{tasks}.json').read_text())
    assert found['1'] == pytest.approx(found['2'], abs=1e-6)


def test_every_task_gets_a_gpu_of_its_node(cluster, tmp_path):
    program = stand_in(tmp_path, 'echo "$SLURM_PROCID of $SLURM_NTASKS on $SLURMD_NODENAME: $CUDA_VISIBLE_DEVICES"')
    env = {key: value for key, value in cluster.items() if key != 'CUDA_VISIBLE_DEVICES'}
    done = launch('slurm_train.sh', env, tmp_path, PYTHON=program)
    assert sorted(done.stdout.splitlines()) == ['0 of 2 on n1: 0', '1 of 2 on n2: 0'], done.stderr
    done = launch('slurm_train.sh', env, tmp_path, PYTHON=program, GPUS_PER_NODE='2')
    assert sorted(done.stdout.splitlines()) == ['0 of 2 on n1: 0,1', '1 of 2 on n1: 0,1'], done.stderr
    done = launch('slurm_train.sh', env, tmp_path, PYTHON=program, CPU='1')
    assert sorted(done.stdout.splitlines()) == ['0 of 2 on n1: ', '1 of 2 on n2: '], done.stderr


def test_arguments_reach_the_tool(cluster, tmp_path):
    program = stand_in(tmp_path, '[ "$SLURM_PROCID" = 0 ] && printf "%s\\n" "$@"; exit 0')
    done = launch('slurm_train.sh', cluster, 'a dir', '--cfg-options', 'a=b c', PYTHON=program, SRUN_ARGS='-t 20 -Q')
    expected = ['-u', f'{ROOT}/tools/train.py', str(CONFIG), '--work-dir', 'a dir', '--launcher', 'slurm']
    assert done.stdout.splitlines() == [*expected, '--cfg-options', 'a=b c'], done.stderr


def test_one_failed_task_ends_all(cluster, tmp_path):
    """Task 1 fails once task 0 sleeps."""
    text = 'cd "$5"; [ $SLURM_PROCID = 0 ] && { echo $$ > pid.part; mv pid.part pid; exec sleep 600; }'
    program = stand_in(tmp_path, text + '; until [ -e pid ]; do sleep 0.1; done; exit 3')
    begin = time.monotonic()
    done = launch('slurm_train.sh', cluster, tmp_path, PYTHON=program)
    assert done.returncode != 0 and time.monotonic() - begin < 300
    assert not alive(int((tmp_path / 'pid').read_text()))


def test_a_wrong_partition_is_told(cluster, tmp_path):
    command = ['bash', ROOT / 'tools' / 'slurm_train.sh', 'none', 'a-test', CONFIG, tmp_path]
    done = subprocess.run(command, env=cluster, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2 and 'Slurm has no partition none; there are test, urgent.' in done.stderr
