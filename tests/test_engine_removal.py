"""A run removes files of its own folder alone, whatever the checkpoint says from which it is resumed."""

import pytest
import torch

from engine_toys import make_runner, val_loader
from mae_toolkit.checkpoints.files import load
from mae_toolkit.errors import UserError

HELD_OUT = {'val_dataloader': val_loader(), 'val_cfg': {'type': 'MAEValLoop'}}
BEST = {'save_best': 'loss', 'rule': 'less', 'max_keep_ckpts': 1}


def run(folder, epochs=1, checkpoint=BEST, **options):
    runner = make_runner(folder, epochs=epochs, checkpoint=dict(checkpoint), **HELD_OUT, **options)
    runner.train()
    return runner


def changed(source, target, **info):
    """A copy of a checkpoint whose message hub says other things; one that is better cannot be refused as worse."""
    checkpoint = load(source, mmap=False)
    checkpoint['message_hub']['runtime_info'].update(best_score=1e9, **info)
    checkpoint['message_hub']['resumed_keys'].update(dict.fromkeys(info, True), best_score=True)
    for name, history in checkpoint['message_hub']['log_scalars'].items():
        checkpoint['message_hub']['log_scalars'][name] = {
            'mae_toolkit_history': torch.from_numpy(history.data[0]),
            'counts': torch.from_numpy(history.data[1]).double(),
        }
    torch.save(checkpoint, target)
    return str(target)


def test_the_best_of_another_folder_stays(tmp_path):
    old, new = tmp_path / 'old', tmp_path / 'new'
    run(old)
    start = changed(old / 'epoch_1.pth', tmp_path / 'start.pth')
    before = sorted(p.name for p in old.iterdir())
    assert 'best_loss_epoch_1.pth' in before
    run(new, 3, load_from=start, resume=True)
    assert sorted(p.name for p in old.iterdir()) == before
    assert len(list(new.glob('best_*'))) == 1 and [p.name for p in new.glob('epoch_*')] == ['epoch_3.pth']


def test_the_best_of_a_folder_that_was_moved_is_followed(tmp_path):
    run(tmp_path / 'old')
    (tmp_path / 'old').rename(tmp_path / 'new')
    start = changed(tmp_path / 'new' / 'epoch_1.pth', tmp_path / 'start.pth')
    run(tmp_path / 'new', 2, load_from=start, resume=True)
    assert [p.name for p in (tmp_path / 'new').glob('best_*')] == ['best_loss_epoch_2.pth']


@pytest.mark.parametrize('place', ['elsewhere', 'named alike', 'symlink', 'folder', 'own log', 'number', 'nul'])
def test_a_crafted_best_removes_nothing(tmp_path, place):
    run(tmp_path / 'old')
    new, treasure = tmp_path / 'new', tmp_path / 'treasure.txt'
    new.mkdir()
    if place == 'named alike':
        treasure = tmp_path / 'best_loss_epoch_7.pth'
    elif place == 'own log':
        treasure = new / 'notes.pth'
    treasure.write_text('precious')
    named = treasure
    if place == 'symlink':
        named = new / 'best_loss_epoch_7.pth'
        named.symlink_to(treasure)
    elif place == 'folder':
        named = new / 'best_loss_epoch_7.pth'
        named.mkdir()
        (named / 'inside.txt').write_text('precious')
    best = {'number': 5, 'nul': 'a\0b'}.get(place, str(named))
    start = changed(tmp_path / 'old' / 'epoch_1.pth', tmp_path / 'start.pth', best_ckpt=best)
    run(new, 2, load_from=start, resume=True)
    assert treasure.read_text() == 'precious' and named.exists()
    assert place != 'folder' or (named / 'inside.txt').read_text() == 'precious'
    assert (new / 'best_loss_epoch_2.pth').is_file()


@pytest.mark.parametrize('ids', [['../../treasure', 1], [[1], {}], 'abc', [True, -1, 2.5], {'a': 1}, None])
def test_crafted_numbers_of_checkpoints_remove_nothing(tmp_path, ids):
    run(tmp_path / 'old')
    new = tmp_path / 'new'
    new.mkdir()
    for name in ('treasure.pth', 'treasure', 'new/epoch_x.pth', 'epoch_.pth'):
        (tmp_path / name).write_text('precious')
    (new / 'epoch_1.pth').symlink_to(tmp_path / 'treasure.pth')
    (new / 'epoch_2.pth').mkdir()
    start = changed(tmp_path / 'old' / 'epoch_1.pth', tmp_path / 'start.pth', keep_ckpt_ids=ids)
    runner = make_runner(
        new, epochs=1, checkpoint=BEST | {'filename_tmpl': 'epoch_{}.pth'}, load_from=start, resume=True
    )
    runner.train()
    for name in ('treasure.pth', 'treasure', 'new/epoch_x.pth', 'epoch_.pth'):
        assert (tmp_path / name).read_text() == 'precious'
    assert (new / 'epoch_1.pth').is_symlink() and (new / 'epoch_2.pth').is_dir()


def test_numbers_of_the_run_remove_its_own_checkpoints(tmp_path):
    """What MMEngine does: of more checkpoints than are kept, the oldest go when a run is resumed."""
    folder = tmp_path / 'run'
    run(folder, 3, checkpoint={'max_keep_ckpts': 3})
    run(folder, 4, checkpoint={'max_keep_ckpts': 1}, resume=True)
    assert [p.name for p in folder.glob('epoch_*')] == ['epoch_4.pth']


def test_what_killed_writers_left_is_cleared_and_nothing_else(tmp_path):
    left = ['.epoch_1.pth.77.partial', '.best_loss_epoch_1.pth.8.partial', '.last_checkpoint.12.partial']
    others = ['.notes.txt.5.partial', '.epoch_1.pth.x.partial', 'epoch_1.pth.5.partial', '.last_checkpoint.partial']
    for name in left + others:
        (tmp_path / name).write_text('half')
    (tmp_path / '.epoch_2.pth.9.partial').mkdir()
    (tmp_path / '.epoch_3.pth.9.partial').symlink_to(tmp_path / '.notes.txt.5.partial')
    run(tmp_path)
    assert not any((tmp_path / name).exists() for name in left)
    assert all((tmp_path / name).exists() for name in others)
    assert (tmp_path / '.epoch_2.pth.9.partial').is_dir() and (tmp_path / '.epoch_3.pth.9.partial').is_symlink()


@pytest.mark.parametrize(
    'template', ['epoch.pth', '../epoch_{}.pth', 'a/{}.pth', '{}_{}.pth', '{x}.pth', '{0.real}{', 5]
)
def test_templates_that_give_no_names(tmp_path, template):
    with pytest.raises(UserError, match='must be a file name with one place for the number'):
        make_runner(tmp_path, checkpoint={'filename_tmpl': template}).train()
