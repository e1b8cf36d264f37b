"""A batch over all processes: shared evenly or refused, and the same for a run that goes on with other processes."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from mae_toolkit.apis import load_config
from mae_toolkit.apis.run_start import share_batch
from mae_toolkit.apis.submission_check import check_submission
from mae_toolkit.apis.training import train
from mae_toolkit.checkpoints.files import load, newest_checkpoint
from mae_toolkit.config.difference import compare_for_resuming
from mae_toolkit.errors import UserError
from test_classification_run import config, folder  # noqa: F401
from tiny import QUICKSTART


def shared(total=None, processes=1, **settings):
    cfg = Config(dict(train_dataloader=dict(batch_size=3), **settings))
    share_batch(cfg, total, processes)
    return cfg


def test_processes_share_the_batch():
    assert shared(8, 4).train_dataloader.batch_size == 2 and shared(8, 4).total_batch_size == 8
    assert shared(None, 4, total_batch_size=8).train_dataloader.batch_size == 2
    assert shared(12, 4, total_batch_size=8).train_dataloader.batch_size == 3
    assert shared(None, 4).train_dataloader.batch_size == 3 and 'total_batch_size' not in shared(None, 4)


@pytest.mark.parametrize(
    ('total', 'said'),
    [
        (10, 'A total batch of 10 images cannot be shared evenly by 4 processes: choose a multiple of 4'),
        (2, 'A total batch of 2 images cannot be shared evenly by 4 processes'),
        (0, 'The total batch size 0 must be a whole number of 1 or more'),
        ('8', "The total batch size '8' must be"),
        (8.0, 'The total batch size 8.0 must be'),
    ],
)
def test_what_cannot_be_shared_is_refused(total, said):
    with pytest.raises(UserError, match=said):
        shared(total, 4)
    with pytest.raises(UserError, match=said):
        shared(None, 4, total_batch_size=total)


def test_another_number_of_processes_is_the_same_training():
    saved, given = shared(8, 4).to_dict(), shared(8, 2).to_dict()
    assert compare_for_resuming(saved, given) == []
    keys = [difference.key for difference in compare_for_resuming(saved, shared(4, 1).to_dict())]
    assert keys == ['train_dataloader.batch_size']
    keys = [difference.key for difference in compare_for_resuming(shared(None, 1).to_dict(), shared(8, 2).to_dict())]
    assert keys == ['train_dataloader.batch_size']


def test_a_training_takes_it_and_its_checkpoint_knows_it(folder):  # noqa: F811
    cfg = config(folder, epochs=1)
    train(cfg, folder / 'run', total_batch_size=2)
    saved = Config.fromstring(load(newest_checkpoint(folder / 'run'))['meta']['cfg'], '.py')
    assert (saved.total_batch_size, saved.train_dataloader.batch_size) == (2, 2)
    assert cfg.train_dataloader.batch_size != 2  # it is not changed


def test_training_leaves_the_config_as_it_was(tmp_path, monkeypatch):
    """Twice with one config is twice the same training: neither the rate nor the batch is scaled again."""
    seen = []
    monkeypatch.setattr('mae_toolkit.apis.training.train_past_spikes', lambda cfg, build: seen.append(cfg) or build())
    monkeypatch.setattr('mae_toolkit.apis.training.Runner.from_cfg', lambda cfg: SimpleNamespace(work_dir=tmp_path))
    cfg = load_config(QUICKSTART)
    before = cfg.to_dict()
    for run in ('one', 'two'):
        train(cfg, tmp_path / run, amp=True, auto_scale_lr=True, total_batch_size=8)
        assert cfg.to_dict() == before and cfg.filename
    first, second = (one.optim_wrapper.to_dict() for one in seen)
    assert first == second != before['optim_wrapper']


def test_what_a_job_would_refuse_is_known_before_it_is_queued(tmp_path):
    cfg = load_config(QUICKSTART)
    before = cfg.to_dict()
    check = partial(check_submission, cfg, 4, tmp_path, 'auto')
    assert check(total_batch_size=8) == '4 processes of 2 images per step, from the beginning'
    with pytest.raises(UserError, match='A total batch of 10 images cannot be shared evenly by 4 processes'):
        check(total_batch_size=10)
    meta = {'epoch': 1, 'iter': 3, 'cfg': load_config(QUICKSTART, {'model.masking.ratio': 0.5}).pretty_text}
    rest = {'optimizer': {'state': {}, 'param_groups': []}, 'message_hub': {'log_scalars': {}}}
    state = {'state_dict': {'a': torch.ones(1)}, 'meta': meta, 'param_schedulers': []} | rest
    torch.save(state, tmp_path / 'epoch_1.pth')
    with pytest.raises(UserError, match=r'model.masking.ratio.*--allow-changed-config'):
        check(total_batch_size=8)
    assert check(allow_changed_config=True).endswith(f'from {tmp_path / "epoch_1.pth"}')
    with pytest.raises(UserError, match='holds 1 checkpoint of an earlier run'):
        check_submission(cfg, 4, tmp_path)
    assert cfg.to_dict() == before
