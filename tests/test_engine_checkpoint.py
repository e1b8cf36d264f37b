"""Checkpoints: no code from others is run, and there is always a usable one on the disk."""

import argparse
import multiprocessing
import os
import pickle
import signal
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from engine_toys import loader, make_runner, val_loader
from mae_toolkit import files
from mae_toolkit.checkpoints.files import extract_state_dict, load, load_training, newest_checkpoint
from mae_toolkit.checkpoints.weights import load_weights
from mae_toolkit.engine.loops import MAEValLoop
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write, remove_partial

WEIGHTS = {'a.weight': torch.arange(6.0).view(2, 3), 'b': torch.ones(2)}


class Malicious:
    """Its pickle runs a shell command when it is loaded the unsafe way."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


def same(state):
    return state.keys() == WEIGHTS.keys() and all(torch.equal(state[k], WEIGHTS[k]) for k in WEIGHTS)


@pytest.mark.parametrize('save', ['zip', 'legacy', 'pickle'])
def test_a_pickle_that_would_execute_code_is_refused(tmp_path, save, monkeypatch):
    path, payload = tmp_path / 'evil.pth', {'model': WEIGHTS, 'x': Malicious(tmp_path / 'owned')}
    if save == 'pickle':
        path.write_bytes(pickle.dumps({'x': payload['x']}, protocol=2))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=save == 'zip')
    with pytest.raises(UserError, match=r'refused: .*evil.pth would execute code from it \(\w+\.system\)'):
        load_weights(path)
    assert not (tmp_path / 'owned').exists()
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)  # which runners set
    torch.load(path, weights_only=False) if save != 'pickle' else pickle.loads(path.read_bytes())
    assert (tmp_path / 'owned').exists()  # the payload was a real one


def test_getattr_is_no_way_around_the_refusal(tmp_path):
    class Sneaky:
        def __reduce__(self):
            return getattr, (np.ndarray, 'tofile')

    torch.save({'x': Sneaky()}, tmp_path / 'sneaky.pth')
    with pytest.raises(UserError, match='refused'):
        load(tmp_path / 'sneaky.pth')


@pytest.mark.parametrize('key', ['state_dict', 'model', 'module', None])
def test_weights_of_others_are_found(tmp_path, key):
    extra = {'args': argparse.Namespace(lr=1e-3, output_dir='out'), 'epoch': 3, 'h': np.float64(2)}
    torch.save({key: WEIGHTS, **extra} if key else WEIGHTS | extra, tmp_path / 'a.pth')
    assert same(load_weights(tmp_path / 'a.pth'))


def test_histories_of_mmengine_are_harmless(tmp_path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({'state_dict': WEIGHTS, 'message_hub': {'log_scalars': {'loss': history}}}, tmp_path / 'mm.pth')
    assert load(tmp_path / 'mm.pth')['message_hub']['log_scalars']['loss'].mean() == 1.5


def test_safetensors_by_suffix(tmp_path):
    save_file(WEIGHTS, tmp_path / 'a.safetensors')
    assert same(load_weights(tmp_path / 'a.safetensors'))
    (tmp_path / 'b.safetensors').write_bytes((tmp_path / 'a.safetensors').read_bytes()[:-5])
    with pytest.raises(UserError, match='no complete safetensors'):
        load_weights(tmp_path / 'b.safetensors')


@pytest.mark.parametrize('content', [b'', b'hello', pickle.dumps({}), b'PK\x03\x04rubbish', 'cut'])
def test_what_is_no_checkpoint_is_told_so(tmp_path, content):
    path = tmp_path / 'a.pth'
    if content == 'cut':
        torch.save(WEIGHTS, path)
        content = path.read_bytes()[:-100]
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'a\.pth is no (complete )?checkpoint'):
        load_weights(path)


def test_missing_file_and_wrong_content_are_told(tmp_path):
    with pytest.raises(UserError, match=r'There is no checkpoint .*none\.pth'):
        load_weights(tmp_path / 'none.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(UserError, match='holds a list'):
        load_weights(tmp_path / 'list.pth')
    torch.save({'epoch': 1}, tmp_path / 'empty.pth')
    with pytest.raises(UserError, match='holds no tensors'):
        load_weights(tmp_path / 'empty.pth')


def test_state_dict_of_unwraps_twice():
    assert same(extract_state_dict({'model': {'module': WEIGHTS}, 'epoch': 1}))


def test_ours_load_without_any_allowance(tmp_path):
    """Not even NumPy's classes are needed, and what resuming needs comes back."""
    runner = make_runner(tmp_path, epochs=1)
    runner.message_hub.update_info('odd', {'array': np.arange(3), 'scalar': np.float32(2.5)})
    runner.message_hub.update_info('hopeless', runner)
    runner.train()
    torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    hub = load_training(tmp_path / 'epoch_1.pth')['message_hub']
    assert hub['runtime_info']['odd'] == {'array': pytest.approx(torch.arange(3)), 'scalar': 2.5}
    assert 'hopeless' not in hub['runtime_info']
    assert (
        hub['log_scalars']['train/loss'].data[0].tolist()
        == runner.message_hub.get_scalar('train/loss').data[0].tolist()
    )


def test_only_the_newest_are_kept_and_the_best(tmp_path):
    hook = {'max_keep_ckpts': 2, 'save_best': 'loss', 'rule': 'less'}
    make_runner(
        tmp_path, epochs=5, checkpoint=hook, val_dataloader=val_loader(), val_cfg={'type': 'MAEValLoop'}
    ).train()
    names = sorted(path.name for path in tmp_path.glob('*.pth'))
    assert names[1:] == ['epoch_4.pth', 'epoch_5.pth'] and names[0].startswith('best_loss_epoch_')
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_5.pth')
    runner = make_runner(tmp_path, epochs=6, checkpoint=hook, resume=True)
    runner.train()
    assert [p.name for p in sorted(tmp_path.glob('epoch*'))] == ['epoch_5.pth', 'epoch_6.pth']


def test_of_equally_good_checkpoints_the_latest_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(MAEValLoop, 'run', lambda loop: loop.runner.call_hook('after_val_epoch', metrics={'loss': 0.5}))
    held_out = {'val_dataloader': val_loader(), 'val_cfg': {'type': 'MAEValLoop'}}
    make_runner(tmp_path, epochs=3, checkpoint={'save_best': 'loss', 'rule': 'less'}, **held_out).train()
    assert [path.name for path in tmp_path.glob('best_*')] == ['best_loss_epoch_3.pth']


def break_writing_of(monkeypatch, name, failure):
    """The second half of that file is never written."""
    whole = files._write_content

    def half(file, content):
        if Path(file.name).name.startswith(f'.{name}'):
            file.write(content[: len(content) // 2])
            failure()
        whole(file, content)

    monkeypatch.setattr(files, '_write_content', half)


def no_space():
    raise OSError(28, 'No space left on device')


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def test_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    break_writing_of(monkeypatch, 'epoch_2.pth', no_space)
    with pytest.raises(UserError, match=r'could not be written into .*No space left.*epoch_1.pth is whole: make room'):
        make_runner(tmp_path, epochs=3, checkpoint={'max_keep_ckpts': 1}).train()
    assert [p.name for p in tmp_path.glob('*.pth*')] == ['epoch_1.pth'] and not list(tmp_path.glob('.*'))
    assert newest_checkpoint(tmp_path).name == 'epoch_1.pth'


def test_full_disk_leaves_the_best_checkpoint(tmp_path, monkeypatch):
    break_writing_of(monkeypatch, 'best_loss_epoch_2.pth', no_space)
    held_out = {'val_dataloader': val_loader(), 'val_cfg': {'type': 'MAEValLoop'}}
    with pytest.raises(UserError, match='No space left'):
        make_runner(tmp_path, checkpoint={'save_best': 'loss', 'rule': 'less'}, **held_out).train()
    assert (tmp_path / 'best_loss_epoch_1.pth').is_file()


@pytest.mark.process
def test_kill_within_a_save_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    break_writing_of(monkeypatch, 'epoch_2.pth', die)
    run = make_runner(tmp_path, epochs=3, checkpoint={'max_keep_ckpts': 1}).train
    process = multiprocessing.get_context('fork').Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.glob('.epoch_2.pth.*.partial'))) == 1
    assert newest_checkpoint(tmp_path).name == 'epoch_1.pth'
    monkeypatch.undo()
    resumed = make_runner(tmp_path, epochs=3, checkpoint={'max_keep_ckpts': 1}, resume=True)
    resumed.train()
    assert resumed.iter == 18 and [p.name for p in tmp_path.glob('*.pth')] == ['epoch_3.pth']
    assert not list(tmp_path.glob('.*.partial'))


CHECKPOINT = {
    'meta': {'iter': 5, 'epoch': 1},
    'state_dict': WEIGHTS,
    'message_hub': {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}},
    'optimizer': {'state': {}, 'param_groups': []},
}


def test_newest_is_the_one_of_most_iterations_that_is_whole(tmp_path):
    for name, done in {
        'epoch_9': 90,
        'epoch_10': 100,
        'iter_95': 95,
        'iter_110': 110,
        'best_loss_epoch_11': 120,
    }.items():
        hub = {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}}
        torch.save(
            {**CHECKPOINT, 'meta': {'iter': done, 'epoch': done // 10}, 'message_hub': hub},
            tmp_path / f'{name}.pth',
        )
    assert newest_checkpoint(tmp_path).name == 'iter_110.pth'
    (tmp_path / 'iter_110.pth').write_bytes((tmp_path / 'iter_110.pth').read_bytes()[:-200])
    (tmp_path / 'last_checkpoint').write_text('')
    assert newest_checkpoint(tmp_path).name == 'epoch_10.pth'
    assert newest_checkpoint(tmp_path / 'nowhere') is None


def test_every_cut_of_a_checkpoint_is_told(tmp_path):
    path = tmp_path / 'iter_5.pth'
    torch.save(CHECKPOINT | {'state_dict': {'a': torch.randn(300, 10)}}, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError):
            load(path)
        assert newest_checkpoint(tmp_path) is None


def test_a_checkpoint_with_other_bytes_is_not_the_newest(tmp_path):
    for done in (4, 5):
        saved = CHECKPOINT | {'meta': {'iter': done, 'epoch': 1}, 'state_dict': {'a': torch.ones(1000)}}
        torch.save(saved, tmp_path / f'iter_{done}.pth')
    whole = (tmp_path / 'iter_5.pth').read_bytes()
    ones = torch.ones(8).numpy().tobytes()
    (tmp_path / 'iter_5.pth').write_bytes(whole.replace(ones, b'\1' * len(ones), 1))
    assert not torch.equal(
        load(tmp_path / 'iter_5.pth', verify=False)['state_dict']['a'], torch.ones(1000)
    )  # torch takes it
    assert newest_checkpoint(tmp_path).name == 'iter_4.pth'


def test_pretrained_weights_with_other_bytes_are_refused(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save({'state_dict': {'a': torch.ones(1000)}}, path)
    content = bytearray(path.read_bytes())
    middle = content.index(torch.ones(100).numpy().tobytes()) + 40
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'a.pth is damaged: .* is not what was written'):
        load_weights(path)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    torch.save({'state_dict': {'a': torch.ones(2), 'b': torch.tensor([1.0, float('nan')])}}, tmp_path / 'a.pth')
    with pytest.raises(UserError, match='1 of its 2 tensors is not finite, the first b'):
        load_weights(tmp_path / 'a.pth')


def test_a_copied_folder_goes_on_from_its_own_checkpoints(tmp_path):
    original, copy = tmp_path / 'original', tmp_path / 'copy'
    for folder, done in ((original, 6), (copy, 5)):
        folder.mkdir()
        torch.save(CHECKPOINT | {'meta': {'iter': done, 'epoch': 1}}, folder / f'iter_{done}.pth')
        (folder / 'last_checkpoint').write_text(str(original / 'iter_6.pth'))
    assert newest_checkpoint(copy) == copy / 'iter_5.pth'
    (copy / 'iter_5.pth').unlink()
    assert newest_checkpoint(copy) == original / 'iter_6.pth'  # as where checkpoints are kept elsewhere


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'optimizer': None}, 'lacks optimizer'),
        ({'meta': {}}, 'lacks meta'),
        ({'meta': {'iter': 'x', 'epoch': 1}}, 'at which iteration'),
        ({'message_hub': {}}, 'lacks message_hub'),
    ],
)
def test_what_no_run_can_go_on_from_is_told(tmp_path, change, said):
    torch.save(CHECKPOINT | change, tmp_path / 'iter_5.pth')
    with pytest.raises(UserError, match=said):
        load_training(tmp_path / 'iter_5.pth')
    assert newest_checkpoint(tmp_path) is None


def test_another_optimizer_or_schedule_is_told_when_resuming(tmp_path):
    make_runner(tmp_path, epochs=1).train()
    with pytest.raises(UserError, match='a run with 2 schedules, and the config has 1'):
        make_runner(tmp_path, resume=True, param_scheduler=[{'type': 'StepLR', 'step_size': 1}]).train()
    plain = {'constructor': 'DefaultOptimWrapperConstructor'}
    with pytest.raises(UserError, match='does not fit that of the config'):
        make_runner(tmp_path, resume=True, wrapper=plain).train()


def test_intervals_between_optimizer_steps_are_refused(tmp_path):
    runner = make_runner(tmp_path, checkpoint={'by_epoch': False, 'interval': 5}, wrapper={'accumulative_counts': 2})
    with pytest.raises(UserError, match='every 5 iterations .* one every 2'):
        runner.train()


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    make_runner(tmp_path, epochs=1).train()
    checkpoint = load(tmp_path / 'epoch_1.pth', mmap=False)
    state = checkpoint['state_dict']
    state['encoder.proj.weight'] = torch.zeros(8, 5)
    torch.save(checkpoint, tmp_path / 'shape.pth')
    with pytest.raises(UserError, match=r'encoder.proj.weight has shape \(8, 5\) there and \(8, 16\) here'):
        make_runner(tmp_path, load_from=str(tmp_path / 'shape.pth')).train()
    del state['encoder.proj.weight']
    torch.save(checkpoint, tmp_path / 'lack.pth')
    with pytest.raises(UserError, match=r'it lacks encoder.proj.weight \(1 names missing, 0 unknown\)'):
        make_runner(tmp_path, load_from=str(tmp_path / 'lack.pth'), resume=True).train()
    torch.save(checkpoint['state_dict'], tmp_path / 'weights.pth')
    with pytest.raises(UserError, match='lacks meta, state_dict, message_hub, optimizer, so no run can go on'):
        make_runner(tmp_path, load_from=str(tmp_path / 'weights.pth'), resume=True).train()


def test_resume_without_a_checkpoint_starts_anew(tmp_path):
    runner = make_runner(tmp_path, epochs=1, resume=True, train_dataloader=loader(batch=4))
    runner.train()
    assert runner.iter == 3


def test_atomic_write_keeps_the_old_content_on_failure(tmp_path):
    path = tmp_path / 'folder' / 'a.txt'
    atomic_write(path, 'old')

    def half(file):
        file.write(b'new')
        raise OSError('full')

    with pytest.raises(OSError, match='full'):
        atomic_write(path, half)
    assert path.read_text() == 'old' and list(path.parent.iterdir()) == [path]
    atomic_write(path, lambda file: file.write(b'new'))
    assert path.read_bytes() == b'new'
    (path.parent / '.a.txt.77.partial').touch()
    assert [p.name for p in remove_partial(path.parent, '*.txt')] == ['.a.txt.77.partial']


def test_atomic_write_flushes_the_file_and_then_the_name_of_it(tmp_path, monkeypatch):
    """Without which a failure of the machine may leave an empty file; the tests flush nothing, see conftest.py."""
    flushed = []

    def note(descriptor):
        flushed.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / 'x.txt').exists()))

    monkeypatch.setattr(os, 'fsync', note)
    atomic_write(tmp_path / 'x.txt', 'new')
    assert flushed == [(False, False), (True, True)]


def test_console_shows_warnings_alone_and_the_file_everything(tmp_path, capsys):
    runner = make_runner(tmp_path, epochs=1, param_scheduler=[{'type': 'ExponentialLR', 'gamma': 0.99}])
    runner.train()
    assert capsys.readouterr().out == ''
    runner.logger.info('a detail')
    runner.logger.info('what one wants to know', extra={'for_users': True})
    runner.logger.warning('what one has to know')
    shown = capsys.readouterr()
    assert [text in shown.out + shown.err for text in ('a detail', 'wants to know', 'has to know')] == [
        False,
        True,
        True,
    ]
    assert 'Saving checkpoint at 1 epochs' in next(tmp_path.glob('*/*.log')).read_text()


OPTIMIZERS = ('SGD', 'Adam', 'AdamW', 'Adagrad', 'RMSprop', 'NAdam', 'Adamax', 'mae_toolkit.Lamb')


@pytest.mark.parametrize('kind', OPTIMIZERS)
def test_every_optimizer_resumes(tmp_path, kind):
    wrapper = {'optimizer': {'type': kind, 'lr': 1e-3}}
    make_runner(tmp_path, epochs=1, wrapper=wrapper).train()
    resumed = make_runner(tmp_path, epochs=2, wrapper=wrapper, resume=True)
    resumed.train()
    assert resumed.iter == 12


SCHEDULES = {
    'PolyLR': {'power': 0.9},
    'MultiStepLR': {'milestones': [2, 3]},
    'LinearLR': {'start_factor': 0.1},
    'CosineRestartLR': {'periods': [3, 3], 'restart_weights': [1, 0.5], 'eta_min': 0},
}


@pytest.mark.parametrize('kind', SCHEDULES)
def test_every_schedule_resumes_and_no_other(tmp_path, kind):
    schedule = {'type': kind, **SCHEDULES[kind]}
    make_runner(tmp_path, epochs=1, param_scheduler=[schedule]).train()
    make_runner(tmp_path, epochs=2, param_scheduler=[schedule], resume=True).train()
    other = {'type': 'ExponentialLR', 'gamma': 0.9}
    with pytest.raises(UserError, match=r'schedule 0 is no ExponentialLR, as it is in the config'):
        make_runner(tmp_path, epochs=3, param_scheduler=[other], resume=True).train()
