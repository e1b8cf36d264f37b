"""tools/transfer.py --slurm, under a real Slurm on this host."""

import json
import subprocess
import time

import pytest

from slurm_cluster import PARTITION, slurm_cluster, why_not
from transfer_toy import Tool, make_toys, write
from warm import write_program

pytestmark = [pytest.mark.process, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    with slurm_cluster() as env:
        python = write_program(tmp_path_factory.mktemp('python'))
        yield {**env, 'CPU': '1', 'CPUS_PER_TASK': '1', 'OMP_NUM_THREADS': '1', 'PYTHON': python}


def wait_for_slurm(env, seconds=600):
    """Wait until no job is left."""
    end = time.monotonic() + seconds
    while queue := subprocess.run(['squeue', '-h'], env=env, capture_output=True, text=True, check=True).stdout:
        assert time.monotonic() < end, queue
        time.sleep(0.2)


@pytest.fixture(scope='module')
def tool(cluster, tmp_path_factory):
    tool = Tool(make_toys(tmp_path_factory.mktemp('toys')), cluster)
    yield tool
    tool.close()


def test_runs_are_jobs_after_their_pretraining(cluster, tool):
    toys, failing = tool.folder, {'encoder': {'type': 'ToyEncoder', 'fails': 'flag'}}
    write(toys, encoders={'scratch': failing, 'MAE': {'pretrain': 'pretrain.py'}}, seeds=[0])
    (toys / 'flag').write_text('raise')
    assert '3 jobs were submitted' in tool('run', 'table.yaml', '--slurm', PARTITION)
    assert '0 jobs were submitted' in tool('run', 'table.yaml', '--slurm', PARTITION)
    wait_for_slurm(cluster)
    text = tool('plan', 'table.yaml')
    assert 'failed' in text and 'pretraining of MAE: done' in text
    (failed,) = toys.glob('work/runs/toy_scratch_*')
    (done,) = toys.glob('work/runs/toy_MAE_*')
    made = json.loads(next(toys.glob('work/pretrain/*/result.json')).read_text())
    result = json.loads((done / 'result.json').read_text())
    assert result['weights']['sha256'] == made['weights']['sha256']
    assert made['finished'] <= result['started']
    assert 'as it was asked to' in (failed / 'log.txt').read_text()
    (toys / 'flag').unlink()
    assert '1 jobs were submitted' in tool('run', 'table.yaml', '--slurm', PARTITION)
    wait_for_slurm(cluster)
    assert (failed / 'result.json').is_file()


def test_a_partition_that_is_not_there_is_told(tool):
    write(tool.folder, work_dir='other')
    assert 'invalid partition specified: none' in tool('run', 'table.yaml', '--slurm', 'none', status=2)
