"""Mistakes in configs and options, as a user makes them: one sentence, and nothing half-written."""

import subprocess
import sys

import pytest

from mae_toolkit.engine import newest_checkpoint
from tiny import QUICKSTART, ROOT, call, refusal, refuse, run


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'train_dataloader__dataset__data_root': '/nowhere'}, ['no folder', '/nowhere']),
        ({'train_dataloader__dataset__ann_file': 'no.txt'}, ['no.txt']),
        ({'model__masking__ration': 0.5}, ['ration', 'ratio']),
        ({'model__maskin__ratio': 0.5}, ['maskin']),
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
    status, text = call('print_config', QUICKSTART, '--cfg-options', option)
    assert status == 2 and 'Traceback' not in text and option in text.splitlines()[-1]


LOST = 'lost.py'
# A mistake for each tool, and what is said of it.
MISTAKES = {
    'analyze_logs': (('lost',), 'lost'),
    'anomaly': (('score', 'lost.safetensors', '.', '--out', 'lost'), 'lost.safetensors'),
    'benchmark': (('model', LOST), LOST),
    'browse_dataset': ((LOST, '--out', 'lost.png'), LOST),
    'check_data': ((LOST,), LOST),
    'compare': ((LOST, '--labels', '.', '--minutes', 0), LOST),
    'compare_detectors': (('lost', '--out', 'lost.png'), 'lost'),
    'compatibility': (('--write', '/dev/null'), '/dev/null'),
    'convert_checkpoint': (('lost.dcp', '--out', 'lost.pth'), 'lost.dcp'),
    'evaluate': ((LOST, '--on', '.'), LOST),
    'explain': (('receptive-field', 'lost.pth', 'lost', '--out', 'lost.png'), 'lost'),
    'export_weights': (('lost.pth', '--out', 'lost.safetensors'), 'lost.pth'),
    'import_weights': (('lost.pth', QUICKSTART, '--out', 'lost.safetensors'), 'lost.pth'),
    'make_shards': (('lost', '--out', 'lost.shards'), 'lost'),
    'make_codebook': ((LOST, '--out', 'lost.safetensors'), LOST),
    'plan': ((LOST,), LOST),
    'plot_gains': (('lost', '--out', 'lost.png'), 'lost'),
    'predict': ((LOST, 'lost.pth', '.', '--out', 'lost'), LOST),
    'print_config': ((LOST,), LOST),
    'reconstruct': ((LOST, 'lost.pth', '.', '--out', 'lost'), LOST),
    'record_numbers': ((LOST, '--out', 'lost.json'), LOST),
    'report': ((LOST, 'lost.pth', '.', '--out', 'lost.html'), LOST),
    'runs': (('show', 'lost'), 'lost'),
    'test': ((LOST, 'lost.pth'), LOST),
    'train': ((LOST,), LOST),
    'transfer': (('plan', 'lost.yaml'), 'lost.yaml'),
    'unpack_archives': (('lost.tar', '--out', 'lost'), 'lost.tar'),
    'weights_table': (('--write', '/dev/null'), '/dev/null'),
}


def test_every_tool_has_a_mistake():
    assert MISTAKES.keys() == {path.stem for path in (ROOT / 'tools').glob('*.py')}


@pytest.mark.process
@pytest.mark.parametrize('tool', MISTAKES)
def test_a_mistake_ends_a_tool_with_a_sentence_and_a_status(tool):
    arguments, word = MISTAKES[tool]
    text = run(tool, *arguments, plain=True, status=2)
    assert 'Traceback' not in text and word in text.splitlines()[-1]


@pytest.mark.process
def test_a_tool_is_a_program():
    """The interpreter starts it, with nothing imported before."""
    done = subprocess.run([sys.executable, ROOT / 'tools' / 'train.py', LOST], cwd=ROOT, capture_output=True, text=True)
    assert LOST in refusal(done.returncode, done.stdout + done.stderr) and not done.stdout
