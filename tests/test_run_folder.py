"""The config and the checkpoint of a run's folder."""

import pytest

from mae_toolkit.checkpoints.run_folder import find_run, is_run
from mae_toolkit.errors import UserError
from tiny import QUICKSTART, run


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run') / 'photos'
    run('train', QUICKSTART, '--work-dir', folder, train_cfg__max_epochs=2, optim_wrapper__optimizer__lr=0.5)
    return folder


@pytest.mark.process
def test_the_config_is_that_of_the_training_with_its_options(folder):
    found = find_run(folder)
    assert is_run(folder) and found.folder == folder and found.checkpoint.name == 'epoch_2.pth'
    assert 'lr=0.5' in found.config.read_text()


@pytest.mark.process
def test_the_best_checkpoint_comes_before_the_newest(folder):
    best = folder / 'best_knn_epoch_2.pth'
    best.write_bytes((folder / 'epoch_2.pth').read_bytes())
    assert find_run(folder).checkpoint == best
    best.unlink()


def test_folders_that_are_no_runs_are_refused(tmp_path):
    with pytest.raises(UserError, match='no folder'):
        find_run(tmp_path / 'lost')
    with pytest.raises(UserError, match='no config'):
        find_run(tmp_path)
    assert not is_run(tmp_path)
    (tmp_path / 'config.py').write_text('a = 1\n')
    with pytest.raises(UserError, match='no whole checkpoint'):
        find_run(tmp_path)
