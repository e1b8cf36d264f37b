"""Sharded checkpoints: whole or not at all, the same as one file, and resumed with any number of processes."""

import json
import os
import pickle
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from torch.distributed import checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from engine_toys import ToyAutoencoder, ToyImages, loader, make_runner
from launching import CONFIG, SMALL
from mae_toolkit.apis import load_config
from mae_toolkit.apis import training as api
from mae_toolkit.checkpoints import publishing
from mae_toolkit.checkpoints.convert import convert_checkpoint
from mae_toolkit.checkpoints.files import list_checkpoints, load, load_training, newest_checkpoint
from mae_toolkit.checkpoints.links import find_linked, read_link, set_link
from mae_toolkit.checkpoints.run_folder import find_run
from mae_toolkit.checkpoints.sharded import find_folder_damage, load_sharded
from mae_toolkit.checkpoints.source import find_source
from mae_toolkit.checkpoints.weights import load_weights
from mae_toolkit.engine import sharded_writer
from mae_toolkit.engine.distributed import init_distributed
from mae_toolkit.engine.hooks import ShardedCheckpointHook, sharded_checkpoint
from mae_toolkit.engine.sharded_writer import ShardedWriter
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS
from small_cnn import SHAPE, cnn_runner
from test_distributed import BrightestHidden, run_pair
from tiny import OPTIONS, call, run_here

TOTAL = 12
FIXED = {'param_scheduler': [{'type': 'CosineAnnealingLR', 'T_max': 20, 'by_epoch': False}]}


def run(folder, end=TOTAL, resume=False, hooks=(), images=None, batch=2, model=None, kind='Sharded', **options):
    options = {'interval': 3, 'by_epoch': False} | options
    launcher = {'launcher': 'pytorch'} if 'WORLD_SIZE' in os.environ else {}
    torch.manual_seed(0)
    torch.set_num_threads(1)  # as in all tests, also in fixtures of the module: sums are the same bit for bit
    runner = make_runner(
        folder, [{'type': 'EMAHook'}, *hooks], checkpoint={'type': f'{kind}CheckpointHook'} | options, resume=resume,
        train_cfg={'type': 'EpochTrainLoop', 'max_epochs': 2, 'end_iter': end}, **FIXED, **launcher,
        train_dataloader=loader(images or ToyImages(12), batch), model=model or {'type': 'ToyAutoencoder'},
    )  # fmt: skip
    runner.train()
    return runner


def assert_same(a, b, place='', close=False):
    assert type(a) is type(b) or isinstance(a, dict), place
    if isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            if key not in ('time', 'experiment_name', 'last_ckpt', 'cfg', 'keep_ckpt_ids', 'eta'):
                assert_same(a[key], b[key], f'{place}.{key}', close)
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), place
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f'{place}.{number}', close)
    elif isinstance(a, torch.Tensor):
        assert torch.allclose(a, b, rtol=0, atol=1e-5) if close else torch.equal(a, b), place
    elif type(a).__name__ == 'HistoryBuffer':
        assert 'time' in place or all(map(np.array_equal, a.data, b.data)), place
    else:
        assert a == b, place


def names(folder):
    return sorted(path.name for path in list_checkpoints(folder))


@pytest.fixture(scope='module')
def one(tmp_path_factory):
    """A run whose checkpoints are single files."""
    folder = tmp_path_factory.mktemp('one')
    run(folder, kind='Safe')
    return folder


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sharded') / 'run'
    run(folder)
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / 'copy', symlinks=True)


@pytest.mark.parametrize('asynchronous', [True, False])
def test_a_folder_holds_what_one_file_does(one, finished, tmp_path, asynchronous):
    folder = finished
    if not asynchronous:
        run(folder := tmp_path, asynchronous=False)
    assert names(folder) == sorted(f'iter_{n}.dcp' for n in (3, 6, 9, 12))
    for n in (6, 12):
        assert_same(load(one / f'iter_{n}.pth'), load(folder / f'iter_{n}.dcp'))
    assert (folder / 'last').resolve() == (folder / 'iter_12.dcp').resolve()
    assert (folder / 'last_checkpoint').read_text() == str(folder / 'iter_12.dcp')


def test_a_run_goes_on_bit_for_bit(one, copied):
    for n in (9, 12):
        shutil.rmtree(copied / f'iter_{n}.dcp')
    run(copied, resume=True)
    assert_same(load(one / 'iter_12.pth'), load(copied / 'iter_12.dcp'))


def test_one_format_goes_on_from_the_other(one, finished, tmp_path):
    shutil.copy(one / 'iter_6.pth', tmp_path)
    run(tmp_path, resume=True)
    assert_same(load(one / 'iter_12.pth'), load(tmp_path / 'iter_12.dcp'))
    other = tmp_path / 'other'
    shutil.copytree(finished / 'iter_6.dcp', other / 'iter_6.dcp')
    run(other, resume=True, kind='Safe')
    assert_same(load(one / 'iter_12.pth'), load(other / 'iter_12.pth'))


def test_a_file_becomes_a_folder_and_a_folder_a_file(one, finished, tmp_path):
    call('convert_checkpoint', one / 'iter_6.pth', '--out', tmp_path / 'iter_6.dcp')
    call('convert_checkpoint', finished / 'last', '--out', tmp_path / 'iter_12.pth')
    assert_same(load_training(one / 'iter_6.pth'), load_training(tmp_path / 'iter_6.dcp'))
    assert_same(load_training(one / 'iter_12.pth'), load_training(tmp_path / 'iter_12.pth'))
    run(tmp_path, resume=True, kind='Safe')
    with pytest.raises(UserError, match='exists already, and is not overwritten'):
        convert_checkpoint(one / 'iter_6.pth', tmp_path / 'iter_6.dcp')
    with pytest.raises(UserError, match=r'a folder made of .*iter_6.pth ends in \.dcp'):
        convert_checkpoint(one / 'iter_6.pth', tmp_path / 'iter_6')
    with pytest.raises(UserError, match=r'a file made of .*iter_12.dcp ends in \.pth'):
        convert_checkpoint(finished / 'last', tmp_path / 'a.dcp')


def test_weights_are_taken_from_a_folder_a_link_or_a_run(finished, tmp_path):
    wanted = load(finished / 'iter_12.dcp')['state_dict']
    for name in ('iter_12.dcp', 'last', '.'):
        assert_same(wanted, load_weights(finished / name), name)
    assert find_source(finished / 'last').path.name == 'iter_12.dcp'
    assert_same(load_weights(finished / 'last#encoder'), {k[8:]: v for k, v in wanted.items() if k[:8] == 'encoder.'})


def test_a_run_with_the_hook_of_the_page(tmp_path):
    page = {'default_hooks.checkpoint.type': 'ShardedCheckpointHook', 'default_hooks.checkpoint.keep_every': 10000}
    options = {name: value for name, value in OPTIONS.items() if not name.startswith('default_hooks.reconstruction')}
    options |= page | {'default_hooks.reconstruction': None}
    folder = tmp_path / 'large'
    api.train(load_config(CONFIG, options), folder)
    assert names(folder) == ['epoch_1.dcp', 'epoch_2.dcp']
    with pytest.raises(UserError, match=r'holds 2 checkpoints of an earlier run \(epoch_2.dcp\): go on with --resume'):
        api.train(load_config(CONFIG, options), folder)
    whole = load_training(folder / 'last')
    shutil.rmtree(folder / 'epoch_2.dcp')
    api.train(load_config(CONFIG, options), folder, resume='auto')
    assert_same(whole['state_dict'], load_training(folder / 'last')['state_dict'])


# ---- Damage ----


def cut(path):
    os.truncate(path, path.stat().st_size - 100)


def flip(path):
    with open(path, 'r+b') as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


DAMAGES = {
    'a truncated shard': ('__0_0.distcp', cut, 'bytes, and'),
    'a missing shard': ('__0_0.distcp', Path.unlink, 'is missing'),
    'a missing index': ('.metadata', Path.unlink, r'\.metadata is missing'),
    'a changed index': ('.metadata', flip, r'\.metadata is not what was written'),
    'a missing rest': ('training_state.pt', Path.unlink, 'lacks training_state.pt'),
    'a missing list': ('contents.json', Path.unlink, 'lacks contents.json, which is written last'),
    'a broken list': ('contents.json', cut, 'contents.json is damaged'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_one_is_skipped_with_a_warning(copied, damage, caplog):
    name, break_it, words = DAMAGES[damage]
    break_it(copied / 'iter_12.dcp' / name)
    assert newest_checkpoint(copied).name == 'iter_9.dcp'
    with pytest.raises(UserError):
        load(copied / 'iter_12.dcp')
    with pytest.raises(UserError, match=words):
        raise UserError(str(find_folder_damage(copied / 'iter_12.dcp')) + describe(copied / 'iter_12.dcp'))


def describe(folder):
    try:
        load_sharded(folder)
    except UserError as error:
        return str(error)
    return ''


def test_each_changed_byte_of_a_tensor_is_found(copied):
    shard = copied / 'iter_12.dcp' / '__0_0.distcp'
    data = bytearray(shard.read_bytes())
    value = load(copied / 'iter_12.dcp')['state_dict']['decoder.proj.weight'].numpy().tobytes()
    data[data.index(value) + 5] ^= 1
    shard.write_bytes(data)
    assert 'is not what was written' in find_folder_damage(copied / 'iter_12.dcp')
    assert find_folder_damage(copied / 'iter_12.dcp', thorough=False) is None
    assert newest_checkpoint(copied).name == 'iter_9.dcp'


class Evil:
    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_no_code_is_executed_from_an_index(copied, tmp_path):
    evil, index = Evil(), copied / 'iter_12.dcp' / '.metadata'
    evil.path = str(tmp_path / 'executed')
    whole = pickle.loads(index.read_bytes())
    whole.planner_data = evil
    index.write_bytes(pickle.dumps(whole))
    with pytest.raises(UserError, match=r'refused: .*posix\.mkdir would execute code'):
        load_sharded(copied / 'iter_12.dcp')
    assert not (tmp_path / 'executed').exists() and newest_checkpoint(copied).name == 'iter_9.dcp'


def test_an_index_reaches_nothing_outside_its_folder(copied):
    index = copied / 'iter_12.dcp' / '.metadata'
    whole = pickle.loads(index.read_bytes())
    place = next(iter(whole.storage_data.values()))
    place.relative_path = '../iter_9.dcp/__0_0.distcp'
    index.write_bytes(pickle.dumps(whole))
    with pytest.raises(UserError, match='which is no shard of its folder'):
        load_sharded(copied / 'iter_12.dcp')


def test_pickled_objects_and_folders_of_others_are_refused(tmp_path):
    with pytest.warns(UserWarning, match='disabled'):
        dcp.save({'a': torch.ones(3), 'b': [1]}, checkpoint_id=tmp_path / 'theirs', no_dist=True)
    with pytest.raises(UserError, match='another program wrote it.*dcp_to_torch'):
        load(tmp_path / 'theirs', verify=False)
    torch.save({'state_dict': {'a': {'mae_toolkit_tensor': 'a'}}}, tmp_path / 'theirs' / 'training_state.pt')
    with pytest.raises(UserError, match='b is a pickled object, not a tensor'):
        load(tmp_path / 'theirs', verify=False)


# ---- What stays ----


def test_the_last_and_every_sixth_stay(tmp_path):
    run(tmp_path, max_keep_ckpts=2, keep_every=6, interval=2)
    assert names(tmp_path) == sorted(f'iter_{n}.dcp' for n in (6, 10, 12))


@HOOKS.register_module(force=True)
class LinkHook(Hook):
    """Names the checkpoint of two iterations, as a user might."""

    priority = 'LOWEST'

    def after_train_iter(self, runner, **_):
        folder = Path(runner.work_dir)
        if (folder / 'iter_2.dcp').exists() and not (folder / 'paper').is_symlink():
            (folder / 'paper').symlink_to('iter_2.dcp')


def test_what_a_link_names_stays_and_so_does_what_is_elsewhere(finished, tmp_path):
    elsewhere = tmp_path / 'elsewhere' / 'iter_1.dcp'
    shutil.copytree(finished / 'iter_3.dcp', elsewhere)
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'iter_1.dcp').symlink_to(elsewhere)
    run(folder, max_keep_ckpts=1, interval=2, hooks=[{'type': 'LinkHook'}], asynchronous=False)
    assert names(folder) == ['iter_1.dcp', 'iter_12.dcp', 'iter_2.dcp'] and find_folder_damage(elsewhere) is None


def test_links_are_files_where_there_are_no_symbolic_ones(tmp_path, monkeypatch):
    for name in ('iter_2.dcp', 'iter_4.dcp'):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(Path, 'symlink_to', lambda *_, **__: os.strerror(1) and (_ for _ in ()).throw(OSError(1)))
    set_link(tmp_path, 'best', 'iter_2.dcp')
    set_link(tmp_path, 'best', 'iter_4.dcp')
    assert (tmp_path / 'best').read_text() == 'iter_4.dcp\n' and not (tmp_path / 'best').is_symlink()
    assert read_link(tmp_path / 'best') == tmp_path / 'iter_4.dcp' and find_linked(tmp_path) == {'iter_4.dcp'}
    (tmp_path / 'last').mkdir()
    with pytest.raises(FileExistsError, match='is no link to a checkpoint'):
        set_link(tmp_path, 'last', 'iter_4.dcp')


@HOOKS.register_module(force=True)
class ScoreHook(Hook):
    """Validates after each epoch but the last, with scores that are known."""

    scores = (0.1, 0.5, 0.3, 0.2)

    def before_train_epoch(self, runner):
        hook = next(hook for hook in runner.hooks if isinstance(hook, ShardedCheckpointHook))
        if runner.epoch:
            hook.after_val_epoch(runner, {'acc': self.scores[runner.epoch - 1]})


def test_the_best_stays_and_is_known_after_a_resumption(tmp_path):
    options = dict(
        hooks=[{'type': 'ScoreHook'}], epochs=5, param_scheduler=None,
        checkpoint=dict(type='ShardedCheckpointHook', max_keep_ckpts=1, save_best='acc', rule='greater'),
    )  # fmt: skip
    make_runner(tmp_path, **options).train()
    assert names(tmp_path) == ['epoch_2.dcp', 'epoch_5.dcp']
    assert read_link(tmp_path / 'best').name == 'epoch_2.dcp'
    assert json.loads((tmp_path / 'best.json').read_text())['acc']['score'] == 0.5
    (tmp_path / 'config.py').touch()
    assert find_run(tmp_path).checkpoint.name == 'epoch_2.dcp'
    shutil.rmtree(tmp_path / 'epoch_5.dcp')  # the one that is left was saved before its own validation
    runner = make_runner(tmp_path, **options | {'hooks': [], 'epochs': 3}, resume=True)
    runner.train()
    assert runner.message_hub.get_info('best_score') == 0.5 and names(tmp_path) == ['epoch_2.dcp', 'epoch_3.dcp']


def test_what_is_there_is_never_overwritten(copied, caplog):
    (copied / 'iter_12.dcp' / 'contents.json').unlink()
    (copied / 'iter_12.dcp' / 'mine').write_text('mine')
    run(copied, resume=True)
    assert (copied / 'iter_12.dcp.1' / 'mine').read_text() == 'mine'
    assert newest_checkpoint(copied).name == 'iter_12.dcp'


# ---- Kills and failures ----

# Where the process of a run is killed while it saves for the second time, and what there is to resume from.
KILLS = {
    'before anything is written': (sharded_writer, 'begin_folder', 'before', 3),
    'before the tensors': (sharded_writer, 'begin_folder', 'after', 3),
    'before the shards': (dcp.FileSystemWriter, 'write_data', 'before', 3),
    'before the index': (dcp.FileSystemWriter, 'finish', 'before', 3),
    'after the index': (dcp.FileSystemWriter, 'finish', 'after', 3),
    'before the list': (sharded_checkpoint, 'publish_folder', 'before', 3),
    'before the link': (sharded_checkpoint, 'set_link', 'before', 6),
    'before the removal': (sharded_checkpoint, 'remove_folder', 'before', 6),
    'within the removal': (publishing.shutil, 'rmtree', 'before', 6),
    'after the removal': (sharded_checkpoint, 'remove_folder', 'after', 6),
}


def is_killed(folder, place, monkeypatch):
    owner, name, when, _ = KILLS[place]
    function, calls = getattr(owner, name), []

    def kill(*args, **kwargs):
        calls.append(1)
        at = 1 if name in ('remove_folder', 'rmtree') else 2
        if when == 'before' and len(calls) == at:
            if name == 'rmtree':
                (Path(args[0]) / 'contents.json').unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if when == 'after' and len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    process = os.fork()
    if not process:
        try:
            monkeypatch.setattr(owner, name, kill)
            run(folder, max_keep_ckpts=1)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


@pytest.mark.process
@pytest.mark.parametrize('place', KILLS)
def test_a_kill_within_a_save_leaves_a_whole_one(place, one, tmp_path, monkeypatch):
    assert is_killed(tmp_path, place, monkeypatch)
    assert newest_checkpoint(tmp_path).name == f'iter_{KILLS[place][3]}.dcp'
    run(tmp_path, resume=True, max_keep_ckpts=1)
    assert_same(load(one / 'iter_12.pth'), load(tmp_path / 'iter_12.dcp'))
    left = {path.name for path in tmp_path.iterdir() if '.dcp' in path.name}
    assert left == {'iter_12.dcp'}


def fail_once(monkeypatch, times=1):
    write, calls = dcp.FileSystemWriter.write_data, []

    def write_data(self, *args):
        calls.append(1)
        if 2 <= len(calls) < 2 + times:
            raise OSError(28, 'No space left on device')
        return write(self, *args)

    monkeypatch.setattr(dcp.FileSystemWriter, 'write_data', write_data)


def test_a_save_that_fails_in_a_thread_is_reported_and_the_next_one_waits(one, tmp_path, monkeypatch):
    fail_once(monkeypatch)
    runner = run(tmp_path)
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    assert 'iter_6.dcp in the background failed' in log and 'iter_6.dcp could not be written' in log
    assert 'No space left' in log and 'iter_3.dcp is whole' in log
    assert names(tmp_path) == sorted(f'iter_{n}.dcp' for n in (3, 9, 12))
    assert_same(load(one / 'iter_12.pth'), load(tmp_path / 'iter_12.dcp'))


def test_a_save_that_fails_twice_ends_the_run(tmp_path, monkeypatch):
    fail_once(monkeypatch, 2)
    with pytest.raises(UserError, match=r'could not be written .*No space left.*iter_3.dcp is whole'):
        run(tmp_path)
    assert names(tmp_path) == ['iter_3.dcp']


def test_the_last_save_is_tried_again(one, tmp_path, monkeypatch):
    fail_once(monkeypatch)
    run(tmp_path, interval=6)
    again, wanted = load(tmp_path / 'iter_12.dcp'), load(one / 'iter_12.pth')
    for part in ('state_dict', 'optimizer', 'ema_state_dict', 'param_schedulers'):
        assert_same(wanted[part], again[part], part)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'filename_tmpl': 'a_{}.dcp'}, 'has no filename_tmpl'),
        ({'keep_every': 0}, 'keep_every=0 must be a whole number of 1 or more'),
        ({'asynchron': True}, "no argument 'asynchron'"),
    ],
)
def test_arguments_that_cannot_work(options, words):
    with pytest.raises(UserError, match=words):
        ShardedCheckpointHook(**options)


@HOOKS.register_module(force=True)
class SaveNowHook(Hook):
    priority = 'LOWEST'

    def after_train_iter(self, runner, **_):
        if runner.iter + 1 in (4, 6):
            hook = next(hook for hook in runner.hooks if isinstance(hook, ShardedCheckpointHook))
            path = Path(hook.save_now(runner))
            assert path.name == f'iter_{runner.iter + 1}.dcp' and find_folder_damage(path) is None
            if runner.iter + 1 == 6:
                raise KeyboardInterrupt


def test_an_interim_one_is_whole_at_once_and_the_next_takes_its_place(one, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, hooks=[{'type': 'SaveNowHook'}])
    assert names(tmp_path) == ['iter_3.dcp', 'iter_6.dcp']
    run(tmp_path, resume=True)
    assert_same(load(one / 'iter_12.pth'), load(tmp_path / 'iter_12.dcp'))


# ---- Several processes ----


def in_pair(rank, folder):
    model = ToyAutoencoder(drop=0.0)
    model.masking = BrightestHidden()
    run(folder / 'pair', images=ToyImages(24), model=model, **PAIR)
    return {}


PAIR = {'end': 12, 'max_keep_ckpts': 4}


def in_pair_resumed(rank, folder):
    for name in () if rank else ('iter_9.dcp', 'iter_12.dcp'):
        shutil.rmtree(folder / 'resumed' / name)
    init_distributed('pytorch')
    torch.distributed.barrier()
    model = ToyAutoencoder(drop=0.0)
    model.masking = BrightestHidden()
    run(folder / 'resumed', images=ToyImages(24), model=model, resume=True, **PAIR)
    return {}


@pytest.mark.process
def test_two_processes_go_on_bit_for_bit_and_one_alone_nearly(tmp_path):
    run_pair(in_pair, tmp_path)
    saved = tmp_path / 'pair' / 'iter_6.dcp'
    assert all((saved / name).stat().st_size > 4000 for name in ('__0_0.distcp', '__1_0.distcp'))
    shutil.copytree(tmp_path / 'pair', tmp_path / 'resumed', symlinks=True)
    run_pair(in_pair_resumed, tmp_path)
    pair, resumed = (load(tmp_path / name / 'iter_12.dcp') for name in ('pair', 'resumed'))
    assert_same(pair, resumed)

    model = ToyAutoencoder(drop=0.0)
    model.masking = BrightestHidden()
    shutil.copytree(saved, tmp_path / 'alone' / 'iter_6.dcp')
    run(tmp_path / 'alone', images=ToyImages(24), batch=4, model=model, resume=True, **PAIR)
    alone = load(tmp_path / 'alone' / 'iter_12.dcp')
    for part in ('state_dict', 'optimizer', 'ema_state_dict'):
        assert_same(alone[part], pair[part], part, close=True)


def norms_in_pair(rank, folder):
    """Of each engine: a run with single files, one with shards, and one that goes on from the second of these."""
    init_distributed('pytorch')
    hooks = [{'type': 'BatchNormStatisticsHook', 'images': 4}, {'type': 'NaNGuardHook'}]
    for engine in ('DataParallel', 'FSDP2'):
        for kind in ('Safe', 'Sharded', 'Resumed'):
            torch.manual_seed(0)
            if kind == 'Resumed' and rank == 0:
                saved = Path(engine, 'Sharded', 'iter_2.dcp')
                shutil.copytree(folder / saved, folder / engine / kind / 'iter_2.dcp')
            torch.distributed.barrier()
            checkpoint = {'type': f'{kind.replace("Resumed", "Sharded")}CheckpointHook', 'by_epoch': False}
            checkpoint['interval'] = 2  # and the last one, which is the third
            runner = cnn_runner(
                folder / engine / kind, hooks, epochs=1, checkpoint=checkpoint, launcher='pytorch',
                train_dataloader=loader(ToyImages(12, shape=SHAPE)), cfg={'model_wrapper_cfg': {'type': engine}},
                wrapper={'optimizer': {'type': 'AdamW', 'lr': 1e-2, 'weight_decay': 0.05, 'foreach': True}},
                resume=kind == 'Resumed',
            )  # fmt: skip
            runner.train()
    return {}


@pytest.fixture(scope='module')
def engines(tmp_path_factory):
    run_pair(norms_in_pair, folder := tmp_path_factory.mktemp('engines'))
    return folder


@pytest.mark.process
@pytest.mark.parametrize('engine', ['DataParallel', 'FSDP2'])
def test_each_engine_saves_what_one_file_holds_and_goes_on_from_it(engines, engine):
    """Running statistics differ between the processes: those of the first are saved. Hooks change what is saved."""
    file, *folders = (
        load(engines / engine / kind / f'iter_3.{suffix}')
        for kind, suffix in (('Safe', 'pth'), ('Sharded', 'dcp'), ('Resumed', 'dcp'))
    )
    for folder in folders:
        for part in ('state_dict', 'masked_batch_norms', 'optimizer'):
            assert_same(file[part], folder[part], part)
    shards = sorted((engines / engine / 'Sharded' / 'iter_3.dcp').glob('*.distcp'))
    assert len(shards) == 2 and max(path.stat().st_size for path in shards) < 1.5 * min(
        path.stat().st_size for path in shards
    )


def make_parts(mesh):
    whole = torch.arange(7 * 3 * 8.0).view(7, 3, 8)
    return {'whole': whole.clone(), 'cut': distribute_tensor(whole, mesh, [Shard(0)])}


def write_parts(rank, folder):
    init_distributed('pytorch')
    mesh = init_device_mesh('cpu', (torch.distributed.get_world_size(),))
    writer = ShardedWriter({'whole'}, lambda path: rank or publishing.publish_folder(path, dict(iter=1, epoch=0)))
    state = make_parts(mesh)
    writer.start(folder / 'iter_1.dcp', dict(state_dict=state))
    for tensor in state.values():
        tensor.zero_()  # as the next step changes the weights
    assert writer.wait() is None
    return {}


def read_parts(rank, folder):
    init_distributed('pytorch')
    mesh = init_device_mesh('cpu', (torch.distributed.get_world_size(),))
    empty = torch.empty_like(make_parts(mesh)['cut'])
    state = load_sharded(folder / 'iter_1.dcp', lambda place: empty if place == ('state_dict', 'cut') else None)
    cut = state['state_dict']['cut']
    assert isinstance(cut, DTensor) and len(cut.to_local()) < 7
    return {'whole': state['state_dict']['whole'], 'cut': cut.full_tensor()}


@pytest.mark.process
def test_parts_of_two_processes_are_read_by_three_and_by_one(tmp_path):
    run_pair(write_parts, tmp_path)
    wanted = torch.arange(7 * 3 * 8.0).view(7, 3, 8)
    state = load_sharded(tmp_path / 'iter_1.dcp')['state_dict']
    assert torch.equal(state['whole'], wanted) and torch.equal(state['cut'], wanted)
    for part in run_pair(read_parts, tmp_path, 3):
        assert torch.equal(part['whole'], wanted) and torch.equal(part['cut'], wanted)


@pytest.mark.process
def test_the_costs_of_saving_are_measured(tmp_path):
    options = [*SMALL, 'train_dataloader.batch_size=2', 'custom_hooks=[]']
    arguments = ('checkpoint', CONFIG, '--processes', 1, '--runs', 1, '--folder', tmp_path / 'bench')
    text = run_here('benchmark', *arguments, '--json', tmp_path / 'a.json', '--cfg-options', *options, plain=True)
    (found,) = json.loads((tmp_path / 'a.json').read_text())
    assert 'sharded, asynchronous: the training waits' in text and not list((tmp_path / 'bench').iterdir())
    assert 0 < found['copied'] < found['written'] and found['megabytes'] > 1 and found['file'] > 0 < found['sharded']
