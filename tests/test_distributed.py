"""Two processes on the CPU do what one does."""

import multiprocessing
import os
import socket

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

import parts
from engine_toys import ToyAutoencoder, ToyImages, ToyPreprocessor, loader, make_runner, val_loader
from mae_toolkit.apis.run_start import enter_work_dir
from mae_toolkit.engine.data_parallel import DataParallel, data_parallel_config
from mae_toolkit.engine.distributed import init_distributed, read_launcher_environment
from mae_toolkit.engine.timed_steps import PROBE, time_steps
from mae_toolkit.engine.watch_record import read_watch
from mae_toolkit.errors import UserError
from mae_toolkit.models import Masking
from small_cnn import SHAPE, cnn_runner
from test_watch import RealImages

IMAGES = 16
FORK_SECONDS = 600


class BrightestHidden(nn.Module):
    """A mask that the image alone decides: the two processes hide what the single one hides."""

    def forward(self, imgs):
        means = nn.functional.avg_pool2d(imgs, 4).flatten(1)
        return torch.zeros_like(means, dtype=torch.bool).scatter(1, means.argsort(1)[:, :3], True).view(-1, 1, 2, 2)


def start_pair(task, folder, count=2, port=None):
    """Start ``task(rank, folder)`` in two processes, or so many, which meet at a free port or the given one."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = port or free.getsockname()[1]
    context = multiprocessing.get_context('fork')
    processes = [
        context.Process(target=_enter, args=(task, folder, rank, count, port), daemon=True) for rank in range(count)
    ]
    for process in processes:
        process.start()
    return processes


def run_pair(task, folder, count=2, port=None):
    """Run ``task(rank, folder)`` in two processes, or so many; what each returned."""
    processes = start_pair(task, folder, count, port)
    for process in processes:
        process.join(FORK_SECONDS)
    assert [process.exitcode for process in processes] == [0] * count
    return [torch.load(folder / f'{rank}.pt') for rank in range(count)]


def _enter(task, folder, rank, count, port):
    os.environ |= {'RANK': str(rank), 'LOCAL_RANK': str(rank), 'WORLD_SIZE': str(count)}
    os.environ |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
    torch.set_num_threads(1)
    torch.save(task(rank, folder), folder / f'{rank}.pt')
    torch.distributed.destroy_process_group()


def train(folder, batch, images=None, val_batch=4, make=ToyAutoencoder, real=None, **kwargs):
    torch.manual_seed(0)
    model = make(drop=0.0)
    model.masking = BrightestHidden() if real is None else model.masking
    data = loader(images or ToyImages(IMAGES, **real or {}), batch)
    held_out = val_loader(images=ToyImages(13, **real or {}), batch=val_batch)
    runner = make_runner(
        folder, model=model, train_dataloader=data, val_dataloader=held_out, val_cfg={'type': 'MAEValLoop'},
        **{'epochs': 5} | kwargs,
    )  # fmt: skip
    runner.train()
    return runner


def results(runner):
    model = getattr(runner.model, 'module', runner.model)
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    val = runner.message_hub.get_scalar('val/loss').data[0]
    return {'state': model.state_dict(), 'losses': torch.tensor(losses), 'val': torch.tensor(val)}


def train_pair(rank, folder):
    return results(train(folder / 'pair', batch=2, val_batch=3, launcher='pytorch'))


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    return run_pair(train_pair, tmp_path_factory.mktemp('two'))


@pytest.mark.process
def test_two_processes_equal_one(tmp_path, pair):
    single = results(train(tmp_path, batch=4))
    assert len(single['losses']) == 20
    mean = (pair[0]['losses'] + pair[1]['losses']) / 2
    assert torch.allclose(mean, single['losses'], rtol=0, atol=1e-6)
    assert not torch.equal(pair[0]['losses'], pair[1]['losses'])
    for name, tensor in single['state'].items():
        for one in pair:
            assert torch.allclose(one['state'][name], tensor, rtol=0, atol=1e-5), name


@pytest.mark.process
def test_validation_over_two_processes_equals_one(tmp_path, pair):
    """13 images, of which the two see 7 and 6."""
    single = results(train(tmp_path, batch=4))
    for one in pair:
        assert torch.allclose(one['val'], single['val'], rtol=0, atol=1e-6)


class BrightestCells(Masking):
    """For the masked autoencoder itself, as the image alone decides."""

    def score(self, imgs, h, w):
        return nn.functional.adaptive_avg_pool2d(imgs.mean(1), (h, w))


def masked_autoencoder(drop):
    masking = BrightestCells(ratio=0.75, unit=8)
    return parts.make_model(masking=masking, data_preprocessor=ToyPreprocessor())


REAL = {'shape': (3, *parts.SIZE)}
WRAPPER = {'optimizer': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.05}}


def train_real_pair(rank, folder):
    options = dict(make=masked_autoencoder, real=REAL, wrapper=WRAPPER, launcher='pytorch')
    return results(train(folder / 'pair', batch=2, val_batch=3, **options))


@pytest.mark.process
def test_two_processes_equal_one_with_the_masked_autoencoder(tmp_path):
    pair = run_pair(train_real_pair, tmp_path)
    single = results(train(tmp_path / 'one', batch=4, make=masked_autoencoder, real=REAL, wrapper=WRAPPER))
    mean = (pair[0]['losses'] + pair[1]['losses']) / 2
    assert len(mean) == 20
    assert torch.allclose(mean, single['losses'], rtol=0, atol=1e-6)
    for name, tensor in single['state'].items():
        assert torch.allclose(pair[0]['state'][name], tensor, rtol=0, atol=1e-5), name
        assert torch.equal(pair[0]['state'][name], pair[1]['state'][name]), name


def skip_on_one(rank, folder):
    guard = {'type': 'NaNGuardHook', 'action': 'skip'}
    images = ToyImages(IMAGES, nan=[5])
    runner = train(folder / 'pair', 2, images, epochs=1, launcher='pytorch', hooks=[guard])
    state = runner.optim_wrapper.optimizer.state
    return {'steps': int(next(iter(state.values()))['step']), 'weight': runner.model.module.encoder.proj.weight.data}


@pytest.mark.process
def test_a_step_is_skipped_by_all_or_none(tmp_path):
    first, second = run_pair(skip_on_one, tmp_path)
    assert first['steps'] == second['steps'] == 3
    assert torch.equal(first['weight'], second['weight']) and first['weight'].isfinite().all()


class OddOnOne(ToyAutoencoder):
    """What one process alone sees, and no gradient tells the other."""

    def forward(self, imgs, mask=None, mode='tensor'):
        odd = torch.distributed.get_rank() == 1 and self.training
        return super().forward(imgs, mask, mode) | {'loss_odd': torch.tensor(float('nan') if odd else 0.0)}


def skip_all(rank, folder):
    guard = {'type': 'NaNGuardHook', 'action': 'skip'}
    runner = train(folder / 'pair', 2, epochs=1, launcher='pytorch', hooks=[guard], make=OddOnOne)
    return {'steps': len(runner.optim_wrapper.optimizer.state)}


@pytest.mark.process
def test_what_one_process_alone_sees_counts_for_all(tmp_path):
    assert run_pair(skip_all, tmp_path) == [{'steps': 0}, {'steps': 0}]


def stop_on_one(rank, folder):
    try:
        train(folder / 'pair', 2, ToyImages(IMAGES, nan=[5]), launcher='pytorch', hooks=[{'type': 'NaNGuardHook'}])
    except UserError as error:
        return {'told': str(error)}


@pytest.mark.process
def test_all_processes_tell_the_images_of_the_one(tmp_path):
    first, second = run_pair(stop_on_one, tmp_path)
    assert first == second and '5.png' in first['told'] and first['told'].count('.png') == 2


def count_broken(rank, folder):
    hook = {'type': 'BrokenImagesHook', 'min_seen': 1000, 'interval': 2}
    runner = train(folder / 'pair', 2, ToyImages(IMAGES, broken=[5, 6]), epochs=2, launcher='pytorch', hooks=[hook])
    hook = next(h for h in runner.hooks if hasattr(h, 'reasons'))
    return {'reasons': sorted(hook.reasons), 'count': hook.count, 'seen': hook.seen}


@pytest.mark.process
def test_broken_images_are_counted_over_all_processes(tmp_path):
    first, second = run_pair(count_broken, tmp_path)
    assert first == second
    assert first['reasons'] == ['5.png', '6.png'] and first['count'] == 4


@pytest.mark.process
def test_slurm_environment(monkeypatch):
    env = {'SLURM_PROCID': '3', 'SLURM_NTASKS': '4', 'SLURM_LOCALID': '1', 'SLURM_JOB_ID': '12345'}
    env |= {'SLURM_NODELIST': 'n[1-2]', 'MASTER_ADDR': 'n1'}
    found = read_launcher_environment('slurm', env)
    assert found == {
        'RANK': '3', 'WORLD_SIZE': '4', 'LOCAL_RANK': '1', 'MASTER_ADDR': 'n1', 'MASTER_PORT': '20345',
    }  # fmt: skip
    assert read_launcher_environment('slurm', env | {'MASTER_PORT': '7'})['MASTER_PORT'] == '7'
    del env['MASTER_ADDR']
    monkeypatch.setenv('PATH', '')
    with pytest.raises(UserError, match=r'scontrol does not tell the first host of n\[1-2\]: set MASTER_ADDR'):
        read_launcher_environment('slurm', env)


@pytest.mark.process
def test_first_host_is_asked_of_slurm(tmp_path, monkeypatch):
    tool = tmp_path / 'scontrol'
    tool.write_text('#!/bin/sh\n[ "$1 $2 $3" = "show hostnames n[1-2]" ] && printf "n1\\nn2\\n"\n')
    tool.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    env = {'SLURM_PROCID': '0', 'SLURM_NTASKS': '1', 'SLURM_LOCALID': '0', 'SLURM_JOB_ID': '1'}
    assert read_launcher_environment('slurm', env | {'SLURM_NODELIST': 'n[1-2]'})['MASTER_ADDR'] == 'n1'


def test_mpi_environment():
    env = {'OMPI_COMM_WORLD_RANK': '1', 'OMPI_COMM_WORLD_SIZE': '2', 'OMPI_COMM_WORLD_LOCAL_RANK': '1'}
    found = read_launcher_environment('mpi', env | {'MASTER_ADDR': 'a'})
    assert (found['RANK'], found['WORLD_SIZE'], found['LOCAL_RANK'], found['MASTER_ADDR']) == ('1', '2', '1', 'a')


def test_what_is_missing_is_told():
    with pytest.raises(UserError, match='--launcher slurm needs the variable SLURM_PROCID, which is not set'):
        read_launcher_environment('slurm', {})
    with pytest.raises(UserError, match='start with torchrun'):
        read_launcher_environment('pytorch', {'RANK': '0'})
    with pytest.raises(UserError, match="no launcher 'torch'"):
        init_distributed('torch')
    init_distributed('none')
    assert not torch.distributed.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
def test_wrapper_on_the_cpu():
    assert data_parallel_config() == {
        'type': 'mae_toolkit.DataParallel',
        'device_ids': None,
        'broadcast_buffers': False,
        'gradient_as_bucket_view': True,
        'static_graph': False,
    }
    assert data_parallel_config(parts.make_model())['static_graph']


def watch_pair(rank, folder):
    watch = {'type': 'WatchHook', 'interval': 3, 'images': 4, 'from_scratch': False}
    images = RealImages(8, shape=SHAPE)
    torch.manual_seed(0)
    run = cnn_runner(folder / 'pair', [watch], train_dataloader=loader(images), epochs=2, launcher='pytorch')
    return {name: value.clone() for name, value in run.train().module.named_parameters()}


@pytest.mark.process
def test_one_of_two_processes_watches_while_the_other_waits(tmp_path):
    first, second = run_pair(watch_pair, tmp_path)
    assert [row['step'] for row in read_watch(tmp_path / 'pair').rows] == [0, 1, 3, 4]
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def enter_pair(rank, folder):
    init_distributed('pytorch')
    (folder / 'run').mkdir(exist_ok=True)
    torch.save({}, folder / 'run' / f'epoch_{rank}.pth')
    torch.distributed.barrier()
    with pytest.raises(UserError) as used, enter_work_dir(str(folder / 'run'), None):
        pass
    with pytest.raises(OSError, match='exists') as file, enter_work_dir(str(folder / 'run' / 'epoch_0.pth'), None):
        pass
    with enter_work_dir(str(folder / 'run'), 'auto'):
        return {'used': str(used.value), 'file': file.value.errno, 'steps': count_steps_of_a_slow_rank(rank)}


def accumulate_pair(rank, folder):
    """Gradients of one step of the optimizer, and of the next, on the same batches with the same weights."""
    init_distributed('pytorch')
    torch.manual_seed(0)
    model = ToyAutoencoder(drop=0.0)
    model.masking = BrightestHidden()
    wrapped = DataParallel(model, static_graph=True, gradient_as_bucket_view=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    found = []
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer.register_step_pre_hook(lambda *_: found.append(torch.cat([p.grad.flatten() for p in trained])))
    wrapper = OptimWrapper(optimizer, accumulative_counts=3)
    images = ToyImages()
    batches = [images.collate([images[4 * k + 2 * rank], images[4 * k + 2 * rank + 1]]) for k in range(3)]
    for batch in batches * 2:
        wrapped.train_step(batch, wrapper)
    return found


@pytest.mark.process
def test_the_first_accumulated_gradients_are_as_those_later(tmp_path):
    """Or a resumed run would not be the same bit for bit; torch learns a static graph in the first iteration."""
    first, second = run_pair(accumulate_pair, tmp_path)
    assert len(first) == 2 and first[0].abs().sum() > 0
    assert all(torch.equal(one, first[0]) for one in (*first, *second))


def count_steps_of_a_slow_rank(rank):
    """How many steps a rank times whose clock says 0.01 s for each, or 0.03 s on the second rank."""
    steps = []
    clock = iter(torch.arange(10**6) * (0.01 + 0.02 * rank))
    time_steps(lambda batch: steps.append(batch), range(5), 1.0, lambda: float(next(clock)))
    return len(steps)


@pytest.mark.process
def test_what_the_first_process_finds_holds_for_all(tmp_path):
    """A refused folder, and how many steps are timed: each exchanges gradients, which all processes must do."""
    first, second = run_pair(enter_pair, tmp_path)
    assert 'holds 2 checkpoints of an earlier run' in first['used']
    assert first == second
    assert first['steps'] > PROBE
