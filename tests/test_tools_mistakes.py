"""Mistakes in configs and options, as a user makes them: one sentence, and nothing half-written."""

import pytest

from mae_toolkit.engine import newest_checkpoint
from tiny import QUICKSTART, refuse, run


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'train_dataloader__dataset__data_root': '/nowhere'}, ['no folder', '/nowhere']),
        ({'train_dataloader__dataset__ann_file': 'no.txt'}, ['no.txt']),
        ({'model__masking__ration': 0.5}, ['ration', 'ratio']),
        ({'model__maskin__ratio': 0.5}, ['maskin']),
        ({'epochs': 3}, ['epochs', 'set it there']),  # a name within the file, used by the time options come
        ({'epoch': 3}, ['epoch', 'no part of a run reads it']),
        ({'param_scheduler__1__begin': 2}, ['param_scheduler[1]', 'begins at 2', 'ends at 2']),
        ({'train_cfg__max_epoch': 3}, ['max_epoch', 'max_epochs']),
        ({'train_dataloader__collate_fn__foo': 3}, ['collate_fn', 'foo']),
        ({'default_hooks__checkpoint__intervall': 3}, ['intervall', 'interval']),
        ({'default_hooks__checkpoint__interval': 'abc'}, ['interval', 'abc']),
        ({'optim_wrapper__accumulative_count': 2}, ['accumulative_count', 'accumulative_counts']),
        ({'optim_wrapper__optimizer__lr': 'abc'}, ['optim_wrapper', 'str']),
        ({'env_cfg__num_thread': 1}, ['num_thread', 'num_threads']),
        ({'model__data_preprocessor__means': 3}, ['means', 'mean']),
        ({'train_dataloader__batchsize': 3}, ['batchsize', 'batch_size']),
        ({'optim_wrapper__optimizer__type': 'AdamX'}, ['AdamX']),
        ({'default_hooks__checkpoint__type': 'CheckpointHok'}, ['CheckpointHok']),
        ({'train_dataloader__dataset__pipeline__0__size': 30}, ['30 x 30', '8']),
        ({'train_dataloader__dataset__channels': 1}, ['1 channels', '3']),
        ({'train_dataloader__batch_size': 1000}, ['1000', '96']),
    ],
)
def test_mistakes_in_a_config(tmp_path, changes, words):
    sentence = refuse('train', QUICKSTART, '--work-dir', tmp_path / 'work', **changes)
    for word in words:
        assert word in sentence
    assert newest_checkpoint(tmp_path / 'work') is None


@pytest.mark.parametrize('option', ["custom_hooks=[dict(type='EMAHook', momentum=1e-4)]", 'a'])
def test_options_that_cannot_be_read(option):
    text = run('print_config', QUICKSTART, '--cfg-options', option, status=2, plain=True)
    assert 'Traceback' not in text and option in text.splitlines()[-1]
