"""tools/transfer.py: what runs, what does not run again, and what survives."""

import csv
import json
import os
import random
import shutil
import signal
import time
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from mae_toolkit.apis import load_config
from mae_toolkit.checkpoints.weights import load_weights
from mae_toolkit.engine.locks import find_holder
from transfer_toy import Tool, make_toys, write

pytestmark = pytest.mark.process


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    return make_toys(tmp_path_factory.mktemp('transfer'))


@pytest.fixture(scope='module')
def tool(base):
    tool = Tool(base)
    yield tool
    tool.close()


@pytest.fixture(scope='module')
def finished(base, tool):
    """The folder of a table that ran without being disturbed, and what the tool printed."""
    return base, tool('run', 'table.yaml', '--jobs', 2)


@pytest.fixture
def toys(base, tmp_path):
    """A folder of its own, in which nothing has run."""
    return make_toys(tmp_path / 'toys')


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished folder, to be changed."""
    return shutil.copytree(finished[0], tmp_path / 'copy')


def results(folder):
    """Results by encoder and seed."""
    found = [json.loads(path.read_text()) for path in folder.glob('work/runs/*/result.json')]
    return {(result['encoder'], result['seed']): result for result in found}


def folder_of(folder, encoder, seed):
    (found,) = folder.glob(f'work/runs/toy_{encoder}_*_{seed}_*')
    return found


def starts(folder):
    """How often training began, by folder of a run."""
    return {path.name: len(list(path.glob('train/*/vis_data'))) for path in folder.glob('work/*/*')}


def rows(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_a_run_has_its_numbers_and_all_that_decided_them(finished, monkeypatch):
    folder, text = finished
    monkeypatch.syspath_prepend(folder)  # the config imports the encoder
    found = results(folder)
    assert len(found) == 4 and '[4/4]' in text
    made = load_weights(next(folder.glob('work/pretrain/*/pretrained.pth')))
    for (encoder, seed), result in found.items():
        run = folder_of(folder, encoder, seed)
        cfg = load_config(run / 'config.py')
        assert cfg.randomness.seed == cfg.train_dataloader.dataset.label_seed == seed
        assert cfg.train_dataloader.dataset.label_fraction == 0.5
        assert (cfg.model.encoder.init_cfg is None) == (encoder == 'scratch')
        assert set(result['metrics']) == {'accuracy/top1', 'accuracy/top2'}
        assert {'torch', 'timm', 'mmengine', 'mae_toolkit', 'commit'} <= set(result['versions'])
        assert result['kind'] == 'run' and result['device'] and result['seconds'] > 0
        assert set(result['data']) == {'data/train/', 'data/test/'}
        assert not list(run.glob('train/*.pth'))  # 144 runs would fill a disk
    assert 'encoder.body.weight' in made
    assert found['scratch', 0]['weights'] is None
    assert len(found['MAE', 0]['weights']['sha256']) == 64


def test_the_encoder_begins_with_the_weights_that_were_pretrained(copy, tool):
    """Without learning, the encoder of a run is that of the pretraining."""
    write(copy, tasks__toy__options={'optim_wrapper.optimizer.lr': 1e-30}, keep_checkpoints=True)
    tool('run', 'table.yaml', '--only', 'encoder=MAE', 'seed=1', folder=copy)
    made = load_weights(next(copy.glob('work/pretrain/*/pretrained.pth')))
    last = next(copy.glob('work/runs/toy_MAE_*/train/iter_*.pth'))
    assert (load_weights(last)['encoder.body.weight'] == made['encoder.body.weight']).all()


def test_the_table_has_means_and_standard_deviations(finished):
    folder, _ = finished
    found = results(folder)
    for row in rows(folder / 'work/table.csv'):
        key = {'top-1': 'accuracy/top1', 'top-2': 'accuracy/top2'}[row['metric']]
        a, b = (found[row['encoder'], seed]['metrics'][key] for seed in (0, 1))
        assert float(row['mean']) == pytest.approx((a + b) / 2)
        assert float(row['std']) == pytest.approx(abs(a - b) / 2**0.5)
        assert row['n'] == row['seeds'] == '2'
        text = f'{(a + b) / 2:.1f} ± {abs(a - b) / 2**0.5:.1f}'
        assert text in (folder / 'work/table.md').read_text()
    assert {row['run'] for row in rows(folder / 'work/runs.csv')} == {result['id'] for result in found.values()}
    assert np.asarray(Image.open(folder / 'work/table.png')).std() > 10


def test_what_is_done_does_not_run_again(finished, tool):
    folder, _ = finished
    before = starts(folder)
    text = tool('run', 'table.yaml')
    assert 'All 4 runs are done.' in text and 'done in' not in text
    assert starts(folder) == before == dict.fromkeys(before, 1)


def test_killed_at_any_moment_and_called_again_gives_the_same_table(finished, toys, tool):
    chance = random.SystemRandom()
    for _ in range(3):
        call = tool.start('run', 'table.yaml', '--jobs', 2, folder=toys)
        time.sleep(0.5 + 4 * chance.random())
        os.killpg(call[0], signal.SIGKILL)
        tool.wait(call)
    tool('run', 'table.yaml', '--jobs', 2, folder=toys)
    assert (toys / 'work/table.csv').read_text() == (finished[0] / 'work/table.csv').read_text()


def test_a_killed_run_goes_on_from_its_newest_checkpoint(finished, toys, tool):
    """It dies when it validates the third of six steps; what was trained before is not trained again."""
    write(toys, encoders={'scratch': {'encoder': {'type': 'ToyEncoder', 'fails': 'flag'}}}, seeds=[0])
    (toys / 'flag').write_text('2.0')  # seconds of a step
    call = tool.start('run', 'table.yaml', folder=toys)
    while not list(toys.glob('work/runs/*/train/iter_1.pth')):
        time.sleep(0.02)
    os.killpg(call[0], signal.SIGKILL)
    tool.wait(call)
    (toys / 'flag').unlink()
    assert '1 ' in tool('plan', 'table.yaml', folder=toys)
    tool('run', 'table.yaml', folder=toys)
    logs = [path.read_text() for path in sorted(toys.glob('work/runs/*/train/*/*.log'))]
    assert 'resumed epoch' in logs[-1] and 'iter: 1' in logs[-1]
    (result,) = results(toys).values()
    assert result['resumed'] and result['metrics'] == results(finished[0])['scratch', 0]['metrics']


def test_a_call_that_is_asked_to_end_ends_its_runs(toys, tool):
    write(toys, encoders={'scratch': {'encoder': {'type': 'ToyEncoder', 'fails': 'flag'}}}, seeds=[0])
    (toys / 'flag').write_text('60')
    call = tool.start('run', 'table.yaml', folder=toys)
    while not list(toys.glob('work/runs/*/train/*/vis_data/config.py')):
        time.sleep(0.02)
    os.kill(call[0], signal.SIGTERM)
    assert tool.wait(call)[0] == 143
    run = folder_of(toys, 'scratch', 0)
    assert find_holder(run) is None and not (run / 'failure.json').exists()


def test_a_call_that_is_killed_takes_its_runs_with_it(toys, tool):
    """The kill reaches the tool alone; its run, in the middle of a step of ten minutes, must not go on as an orphan."""
    write(toys, encoders={'scratch': {'encoder': {'type': 'ToyEncoder', 'fails': 'flag'}}}, seeds=[0])
    (toys / 'flag').write_text('600')
    call = tool.start('run', 'table.yaml', folder=toys)
    while not list(toys.glob('work/runs/*/train/*/vis_data/config.py')):
        time.sleep(0.02)
    run = folder_of(toys, 'scratch', 0)
    assert find_holder(run) is not None
    os.kill(call[0], signal.SIGKILL)
    tool.wait(call)
    end = time.monotonic() + 300  # half of what the step takes
    while find_holder(run) is not None and time.monotonic() < end:
        time.sleep(0.1)
    assert find_holder(run) is None and find_holder(run / 'train') is None


@pytest.mark.parametrize(('flag', 'heard'), [('raise', 'as it was asked to'), ('die', 'killed by signal 9')])
def test_a_failure_costs_one_run_and_only_it_is_repeated(copy, tool, flag, heard):
    encoders = {'other': {'encoder': {'type': 'ToyEncoder', 'fails': 'flag'}}}
    encoders['fine'] = {'encoder': {'type': 'ToyEncoder', 'channels': 4}}
    write(copy, encoders=encoders, seeds=[0])
    (copy / 'flag').write_text(flag)
    text = tool('run', 'table.yaml', folder=copy, status=2)
    assert '1 runs failed' in text and heard in text
    failure = json.loads((folder_of(copy, 'other', 0) / 'failure.json').read_text())
    assert heard in '\n'.join(failure['last_lines'])
    line = next(line for line in tool('plan', 'table.yaml', folder=copy).splitlines() if line.startswith('toy   other'))
    assert line.split() == ['toy', 'other', '1']
    assert (folder_of(copy, 'fine', 0) / 'result.json').is_file()
    before = starts(copy)
    (copy / 'flag').unlink()
    text = tool('run', 'table.yaml', folder=copy)
    again = {name for name, count in starts(copy).items() if count != before[name]}
    assert again == {folder_of(copy, 'other', 0).name}
    assert not (folder_of(copy, 'other', 0) / 'failure.json').exists()


def test_runs_wait_for_a_pretraining_that_failed_and_say_so(toys, tool):
    text = (
        (toys / 'pretrain.py').read_text().replace("dict(type='ToyEncoder')", "dict(type='ToyEncoder', fails='flag')")
    )
    (toys / 'pretrain.py').write_text(text)
    (toys / 'flag').write_text('raise')
    text = tool('run', 'table.yaml', '--only', 'encoder=MAE', folder=toys, status=2)
    assert '3 runs failed' in text and not results(toys)


def test_two_calls_at_once_share_the_runs(toys, tool):
    calls = [tool.start('run', 'table.yaml', folder=toys) for _ in range(2)]
    for status, text in map(tool.wait, calls):
        assert status == 0, text
        assert '| MAE | ' in text
    assert set(starts(toys).values()) == {1} and len(results(toys)) == 4


def test_other_settings_run_anew_and_the_first_ones_are_kept(copy, tool):
    old = (copy / 'work/table.csv').read_text()
    changes = dict(encoders={'scratch': {'encoder': {'type': 'ToyEncoder'}}}, seeds=[0])
    write(copy, tasks__toy__options={'optim_wrapper.optimizer.lr': 1e-2}, **changes)
    text = tool('plan', 'table.yaml', folder=copy)
    assert '0 of 1 runs are done' in text and '4 runs of other settings' in text
    tool('table', 'table.yaml', folder=copy)
    assert all(row['n'] == '0' and not row['mean'] for row in rows(copy / 'work/table.csv'))
    tool('run', 'table.yaml', folder=copy)
    new = rows(copy / 'work/table.csv')
    assert [row['n'] for row in new] == ['1', '1']
    assert '(n=1)' in (copy / 'work/table.md').read_text()
    write(copy)
    tool('table', 'table.yaml', folder=copy)
    assert (copy / 'work/table.csv').read_text() == old


def test_the_table_needs_neither_data_nor_weights(copy, tool):
    shutil.rmtree(copy / 'data')
    for path in copy.glob('work/pretrain/*/*.pth'):
        path.unlink()
    before = {name: (copy / 'work' / name).read_text() for name in ('table.csv', 'runs.csv', 'table.md')}
    for name in before:
        (copy / 'work' / name).unlink()
    tool('table', 'table.yaml', folder=copy)
    assert {name: (copy / 'work' / name).read_text() for name in before} == before


def test_a_folder_of_results_makes_its_table_again(copy, tool, tmp_path):
    tool('table', 'table.yaml', '--out', tmp_path / 'kept', folder=copy)
    kept = {path.name: path.read_bytes() for path in (tmp_path / 'kept').iterdir() if path.is_file()}
    assert {'experiment.yaml', 'results.jsonl', 'scalars.jsonl', 'table.md', 'runs.csv', 'table.png'} <= set(kept)
    logged = json.loads(kept['scalars.jsonl'].splitlines()[0])
    assert any('loss' in name and values['values'] for name, values in logged.items() if name != 'run')
    first, other = (folder_of(copy, name, 0) / 'config.py' for name in ('scratch', 'MAE'))
    assert sorted(path.name for path in (tmp_path / 'kept/configs').iterdir()) == ['toy_MAE.diff', 'toy_scratch.py']
    assert (tmp_path / 'kept/configs/toy_scratch.py').read_text() == first.read_text()
    changes = [line for line in (tmp_path / 'kept/configs/toy_MAE.diff').read_text().splitlines()[2:] if line[0] != '@']
    gone, come = ([line[1:] for line in changes if line[0] == sign] for sign in '-+')
    before, after = first.read_text().splitlines(), other.read_text().splitlines()
    assert come and Counter(before) - Counter(gone) == Counter(after) - Counter(come)
    shutil.rmtree(copy)
    tool('table', '--from', tmp_path / 'kept', '--out', tmp_path / 'again')
    for name in ('table.md', 'table.csv', 'runs.csv', 'table.png'):
        assert (tmp_path / 'again' / name).read_bytes() == kept[name]


def test_weights_that_are_pretrained_anew_have_new_runs(copy, tool):
    """The results of the old weights do not count any more."""
    (result,) = copy.glob('work/pretrain/*/result.json')
    made = json.loads(result.read_text())
    made['weights']['sha256'] = 64 * '0'
    result.write_text(json.dumps(made))
    assert '2 of 4 runs are done' in tool('plan', 'table.yaml', folder=copy)
    tool('table', 'table.yaml', folder=copy)
    assert [row['n'] for row in rows(copy / 'work/table.csv') if row['encoder'] == 'MAE'] == ['0', '0']


def test_only_some_runs(toys, tool):
    text = tool('run', 'table.yaml', '--only', 'encoder=sc*', 'seed=1', folder=toys)
    assert list(results(toys)) == [('scratch', 1)] and '1 of 4' not in text
    assert 'did you mean MAE' in tool('plan', 'table.yaml', '--only', 'encoder=MAX', folder=toys, status=2)
    assert 'encoder, task, labels, seed' in tool('plan', 'table.yaml', '--only', 'share=1', folder=toys, status=2)


def test_all_mistakes_are_told_before_anything_runs(toys, tool):
    write(
        toys,
        encoders__typo={'encoder': {'type': 'ToyEncodr'}},
        encoders__arch={'encoder': {'type': 'ViT', 'arch': 'vit_tinny_patch16_224'}},
        encoders__lost={'encoder': {'type': 'ToyEncoder'}, 'checkpoint': 'nowhere.pth'},
        encoders__wrong={'encoder': {'type': 'ToyEncoder', 'channels': 4}, 'checkpoint': 'made.pth'},
        tasks__missing={'config': 'toyy.py', 'metrics': {'top-1': 'accuracy/top1'}},
        tasks__toy__metrics__AP='accuracy/top3',
        encoders__levels={'encoder': {'type': 'ToyEncoder', 'out_indices': []}},
        encoders__kind={'encoder': {'type': 5}},
        encoders__inner={'encoder': {'type': 'ToyEncoder'}, 'options': {'train_cfg.max_epochs.x': 2}},
    )
    torch.save({'state_dict': {'encoder.body.weight': torch.zeros(8, 3, 8, 8)}}, toys / 'made.pth')
    shutil.rmtree(toys / 'data/test')
    text = tool('run', 'table.yaml', folder=toys, status=2)
    assert 'Traceback' not in text and not (toys / 'work').exists()
    for part in (
        "'ToyEncodr'; did you mean ToyEncoder",
        'vit_tiny_patch16_224',
        'nowhere.pth',
        '(8, 3, 8, 8), the model (4, 3, 8, 8)',
        'toyy.py; did you mean toy.py',
        'data/test',
        'out_indices=[] must be a list of level numbers',
        'no encoder named 5',
        'train_cfg.max_epochs is 2, in which nothing can be set',
        "'accuracy/top3'; did you mean accuracy/top2",
    ):
        assert part in text, text
