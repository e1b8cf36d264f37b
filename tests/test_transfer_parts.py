"""Parts of transfer tables: the YAML, hashes, locks, means and what is said below them."""

import json
import multiprocessing
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from launching import ROOT
from mae_toolkit.checkpoints.publishing import write_sharded
from mae_toolkit.engine.locks import find_holder, lock_folder
from mae_toolkit.errors import UserError
from mae_toolkit.transfer import slurm, worker
from mae_toolkit.transfer.checks import find_metrics
from mae_toolkit.transfer.experiment import read_experiment
from mae_toolkit.transfer.hashes import FileHashes, settings_hash
from mae_toolkit.transfer.job import BEGUN, Job, read_result
from mae_toolkit.transfer.plan import make_plan
from mae_toolkit.transfer.plot_curves import collect_curves, draw_curves
from mae_toolkit.transfer.report import write_markdown, write_runs_csv, write_table_csv
from mae_toolkit.transfer.run_records import RunResult, Weights
from mae_toolkit.transfer.summary import Cell, find_best, format_cell, list_columns, make_cells
from mae_toolkit.transfer.tables import write_again
from mae_toolkit.transfer.worker import _evaluate
from transfer_toy import make_toys, write

YAML = """
encoders:
  A, scratch: {encoder: {type: ViT, arch: a}}
  A, MAE: {encoder: pre.py, checkpoint: a.pth, options: {lr: 1e-3, cells: {lr: 2e-3}}}
  B, scratch: {encoder: {type: Swin, arch: b}}
tasks:
  cells: {config: cells.py, metrics: {AP: coco/bbox_mAP}, options: {lr: 0.1, steps: 5}}
  digits: {config: digits.py, metrics: {top-1: accuracy/top1, share: {metric: accuracy/top1, scale: 0.01}}}
labels: [0.1, 1.0]
seeds: [0, 1]
"""
PAIRS = """tasks:
  pairs:
    config: a.py
    metrics: {AP: coco/bbox_mAP}
    options:
      model.size: (160, 120)
      rate: 5e-4"""


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / 'sets.yaml').write_text(YAML)
    return read_experiment(tmp_path / 'sets.yaml')


def result(encoder, task, labels, seed, value, **more):
    plain = {
        'id': f'{encoder}-{seed}',
        'encoder': encoder,
        'task': task,
        'label_fraction': labels,
        'seed': seed,
        'metrics': {'coco/bbox_mAP': value} if task == 'cells' else {'accuracy/top1': value},
        'weights': Weights('a.pth', 64 * 'a') if encoder == 'A, MAE' else None,
        'family': encoder[0],
        'pretrained': encoder == 'A, MAE',
        'pretraining': None,
        'config': 'c.py',
        'config_sha256': 'c',
        'options': {},
        'settings': 's',
        'data': {'d/': 'x'},
        'keep_checkpoints': False,
        'device': 'CPU',
        'versions': {'torch': '2.6', 'mae_toolkit': '0.1', 'commit': None},
        'seconds': 36.0,
        'resumed': False,
        'started': '2026-01-02T00:00:00+00:00',
        'finished': '2026-01-03T00:00:00+00:00',
    }
    return RunResult(**plain | more)


def test_what_a_yaml_says(experiment):
    assert str(experiment.work_dir) == 'work_dirs/transfer/sets'
    assert [source.pretrained for source in experiment.encoders] == [False, True, False]
    cells, digits = experiment.tasks
    assert [(m.key, m.scale) for m in cells.metrics] == [('coco/bbox_mAP', 100)]
    assert [m.scale for m in digits.metrics] == [1, 0.01]
    assert experiment.options(experiment.encoders[1], cells) == {'lr': 0.002, 'steps': 5}
    assert experiment.options(experiment.encoders[1], digits) == {'lr': 0.001}
    assert experiment.options(experiment.encoders[0], digits) == {}


def test_all_mistakes_of_a_yaml_are_told_at_once(tmp_path):
    text = YAML.replace('checkpoint: a.pth', 'chekpoint: a.pth, pretrain: p.py, checkpoint: b.pth')
    text = text.replace('labels: [0.1, 1.0]', 'labels: [0, 2]').replace('seeds: [0, 1]', 'seeds: [1, 1]\nwork: x')
    text = text.replace('cells: {lr: 2e-3}', 'cell: {lr: 2e-3}').replace('{config: cells.py, ', '{')
    (tmp_path / 'bad.yaml').write_text(text)
    with pytest.raises(UserError) as told:
        read_experiment(tmp_path / 'bad.yaml')
    for part in (
        "'chekpoint'; did you mean checkpoint",
        'not from both',
        '[0, 2]',
        '[1, 1]',
        "'work'; did you mean work_dir",
        "'cell', which is no task; did you mean cells",
        "task 'cells': the key 'config' is missing",
    ):
        assert part in str(told.value)


def test_a_name_that_is_given_twice_is_refused(tmp_path):
    (tmp_path / 'bad.yaml').write_text(YAML.replace('B, scratch', 'A, scratch'))
    with pytest.raises(UserError, match="'A, scratch' is given twice"):
        read_experiment(tmp_path / 'bad.yaml')


def test_places_do_not_change_the_hash_of_settings_and_settings_do():
    def config(root='data/a', checkpoint='x.pth', lr=0.1, **more):
        model = {'encoder': {'init_cfg': {'checkpoint': checkpoint}}}
        evaluator = {'ann_file': f'{root}/test.json'}
        loader = {'dataset': {'data_root': f'{root}/'}}
        plain = {'model': model, 'train_dataloader': loader, 'test_evaluator': evaluator}
        plain['optim_wrapper'] = {'optimizer': {'lr': lr}}
        return settings_hash(Config(plain | more), checkpoint)

    assert config() == config('/else/where', 'y.pth', work_dir='w', load_from='z', visualizer={'type': 'V'})
    assert config() != config(lr=0.2)
    assert config() != config(randomness={'seed': 1})
    assert config() == config(size=96)  # a variable, from which nothing is derived
    assert config() == config(model={'encoder': {'init_cfg': {'checkpoint': 'x.pth'}}})
    assert config() != config(model={'encoder': {'init_cfg': None}})


def test_roots_of_one_name_are_told_apart(tmp_path):
    def data_and_settings(train, test):
        loaders = {'train': train, 'test': test}
        plain = {
            f'{k}_dataloader': {'dataset': {'data_root': str(tmp_path / v), 'split': 'all'}} for k, v in loaders.items()
        }
        return FileHashes().data(Config(plain)), settings_hash(Config(plain))

    for i, root in enumerate(('site1/set', 'site2/set')):
        (tmp_path / root / 'all').mkdir(parents=True)
        (tmp_path / root / 'all' / f'{i}.png').touch()
    one, across = data_and_settings('site1/set', 'site1/set'), data_and_settings('site1/set', 'site2/set')
    assert set(one[0]) == {'set/all/'} and set(across[0]) == {'set/all/', 'other set/all/'}
    assert len(set(across[0].values())) == 2 and one[1] != across[1]
    assert data_and_settings('site2/set', 'site2/set')[1] == one[1]


def test_weights_of_a_whole_model_count_by_their_content(tmp_path):
    cfg = Config({'load_from': str(tmp_path / 'a.pth')})
    assert FileHashes().data(cfg) == {'load_from': None}
    (tmp_path / 'a.pth').write_text('weights')
    assert FileHashes().data(cfg)['load_from'] is not None
    assert settings_hash(cfg) == settings_hash(Config({}))
    assert settings_hash(Config({'load_from': 'https://a.b/c.pth'})) != settings_hash(Config({}))


@pytest.mark.parametrize('text', ['{"a": ', '[]', '5'])
def test_a_damaged_file_of_a_run_is_named(tmp_path, text):
    (tmp_path / 'result.json').write_text(text)
    with pytest.raises(UserError, match='result.json is damaged .*delete it'):
        read_result(tmp_path)


def test_a_damaged_line_of_results_is_named(tmp_path, experiment):
    (tmp_path / 'experiment.yaml').write_text(YAML)
    (tmp_path / 'notes.json').write_text('[]')
    (tmp_path / 'results.jsonl').write_text(json.dumps(result('A, MAE', 'cells', 0.1, 0, 0.5).to_dict()) + '\n5\n')
    with pytest.raises(UserError, match='results.jsonl is damaged: line 2'):
        write_again(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ('old', 'new', 'sentence'),
    [
        ('arch: a}', 'arch: a, init_cfg: {type: Pretrained, checkpoint: x.pth}}', 'not by init_cfg in the encoder'),
        ('scale: 0.01', 'scale: 0', 'a number other than 0, not 0'),
        ('scale: 0.01', 'scale: .nan', 'a number other than 0, not nan'),
        ('steps: 5', '1: 5', 'the option 1 is no dotted key'),
        ('B, scratch:', "'':", 'encoders: a name is empty'),
        ('A, scratch: {', "1: {encoder: x.py}\n  '1': {", "the name '1' is given twice"),
    ],
)
def test_a_mistake_of_a_yaml_is_told(tmp_path, old, new, sentence):
    (tmp_path / 'bad.yaml').write_text(YAML.replace(old, new))
    with pytest.raises(UserError, match=sentence):
        read_experiment(tmp_path / 'bad.yaml')


def test_data_are_annotations_by_content_and_images_by_name_and_size(tmp_path):
    (tmp_path / 'set/images').mkdir(parents=True)
    (tmp_path / 'set/images/a.png').write_text('pixels')
    (tmp_path / 'set/train.json').write_text('{}')
    dataset = {'data_root': str(tmp_path / 'set'), 'ann_file': 'train.json', 'data_prefix': {'img': 'images/'}}
    cfg = Config({'train_dataloader': {'dataset': {'type': 'Repeat', 'dataset': dataset}}})
    first = FileHashes().data(cfg)
    assert set(first) == {'set/train.json', 'set/images/'} and None not in first.values()
    (tmp_path / 'set/train.json').write_text('[]')
    (tmp_path / 'set/images/b.png').write_text('more')
    second = FileHashes().data(cfg)
    assert all(first[name] != second[name] for name in first)
    (tmp_path / 'set/train.json').unlink()
    assert FileHashes().data(cfg)['set/train.json'] is None


def test_runs_are_told_apart_by_what_decides_their_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(make_toys(tmp_path / 'toys'))

    def ids(state=0.0, path='a.pth', **changes):
        torch.save({'state_dict': {'encoder.body.weight': torch.full((8, 3, 8, 8), state)}}, path)
        source = {'encoder': {'type': 'ToyEncoder'}, 'checkpoint': path}
        plan = make_plan(read_experiment(write(tmp_path / 'toys', encoders={'A': source}, **changes)))
        assert not plan.mistakes
        return [job.id for job in plan.jobs]

    first = ids()
    assert len(set(first)) == 2 and ids() == first == ids(work_dir='other')
    assert not set(first) & set(ids(state=1.0))
    assert not set(first) & set(ids(labels=[1.0]))
    assert not set(first) & set(ids(tasks__toy__options={'optim_wrapper.optimizer.lr': 1e-2}))
    (tmp_path / 'toys/data/train/dark/0.png').unlink()
    assert not set(first) & set(ids())


def test_two_rows_of_the_same_settings_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(make_toys(tmp_path / 'toys'))
    twin = {'encoder': {'type': 'ToyEncoder'}}
    plan = make_plan(read_experiment(write(tmp_path / 'toys', encoders={'A': twin, 'B': twin})))
    assert len(plan.mistakes) == 1 and "'A' on 'toy' and 'B' on 'toy'" in plan.mistakes[0]


def test_the_time_of_the_rest_is_estimated_from_what_has_finished(tmp_path, monkeypatch):
    monkeypatch.chdir(make_toys(tmp_path / 'toys'))
    encoders = {'A': {'encoder': {'type': 'ToyEncoder'}}, 'B': {'encoder': {'type': 'ToyEncoder', 'channels': 4}}}
    plan = make_plan(read_experiment(write(tmp_path / 'toys', encoders=encoders, seeds=[0, 1, 2])))
    assert plan.remaining(plan.todo()) == 'unknown for toy until one run of it has finished'
    for job, seconds, resumed in zip(plan.jobs, (100, 140, 7, 300), (False, False, True, False)):
        job.folder.mkdir(parents=True)
        done = result('A', 'toy', 0.5, 0, 50.0, seconds=seconds, resumed=resumed)
        done.write(job.folder / 'result.json')
    assert plan.times() == {'toy': 180, ('toy', 'A'): 120, ('toy', 'B'): 300}
    assert plan.remaining(plan.todo()) == 'about 10 min'
    assert plan.remaining(plan.todo(), 2) == 'about 5 min'
    assert plan.remaining(plan.todo()[:1], 2) == 'about 5 min'


def test_means_spreads_and_bold(experiment):
    values = {'A, scratch': (0.20, 0.22), 'A, MAE': (0.30, 0.31), 'B, scratch': (0.10, 0.40)}
    results = [result(name, 'cells', 0.1, seed, v) for name, pair in values.items() for seed, v in enumerate(pair)]
    results += [result('A, MAE', 'cells', 1.0, 1, 0.5), result('A, MAE', 'digits', 1.0, 0, 93.75)]
    table = make_cells(experiment, results)
    few, many = list_columns(experiment)[:2]
    assert few.title == 'cells AP, 10%' and len(list_columns(experiment)) == 6
    assert table['A, scratch', few].mean == pytest.approx(21)
    assert table['A, scratch', few].std == pytest.approx(2**0.5)
    assert format_cell(table['A, scratch', few]) == '21.0 ± 1.4'
    assert format_cell(table['A, MAE', many]) == '50.0 (n=1)'
    assert format_cell(table['A, scratch', many]) == '\N{EN DASH}'
    assert find_best(experiment, table, few) is None  # B's seeds are far apart
    table['B, scratch', few] = Cell([28.0, 28.2], [], 2)
    assert find_best(experiment, table, few) == 'A, MAE'
    table['B, scratch', few] = Cell([28.0], [], 2)
    assert find_best(experiment, table, few) is None
    share = next(
        column for column in list_columns(experiment) if column.metric.name == 'share' and column.label_fraction == 1
    )
    assert table['A, MAE', share].values == [0.9375]


def test_what_is_below_the_table(experiment):
    results = [result('A, MAE', 'cells', 0.1, 0, 0.3), result('A, scratch', 'cells', 0.1, 0, 0.2)]
    text = write_markdown(experiment, make_cells(experiment, results), results, ['Made by hand.'])
    assert '| A, MAE | `a.pth` | `aaaaaaaaaaaa` |' in text and '| B, scratch | scratch |' in text
    assert 'Mixed' not in text and '- Made by hand.' in text and 'From 2026-01-02 to 2026-01-03' in text
    assert '2 runs on CPU: torch 2.6' in text
    other = {'torch': '2.7', 'mae_toolkit': '0.1', 'commit': None}
    results.append(result('A, MAE', 'cells', 0.1, 1, 0.3, device='GPU', versions=other))
    text = write_markdown(experiment, make_cells(experiment, results), results)
    assert 'Mixed devices within a cell (CPU and GPU): A, MAE on cells, 10%.' in text
    assert 'Mixed versions of torch within a cell (2.6 and 2.7): A, MAE on cells, 10%.' in text
    assert 'A, MAE,' not in write_runs_csv(experiment, results).replace('"A, MAE",', '')  # commas are quoted
    assert write_table_csv(experiment, make_cells(experiment, results)).splitlines()[1:3] == [
        '"A, scratch",cells,0.1,AP,20,,1,2',
        '"A, scratch",cells,1,AP,,,0,2',
    ]


def test_curves_are_those_of_the_validation_by_encoder_and_column(experiment, tmp_path):
    results = [result('A, MAE', 'cells', 0.1, seed, 0.3) for seed in (0, 1)]
    results.append(result('A, scratch', 'digits', 1.0, 0, 50.0))
    loss, metric = {'steps': [1], 'values': [2.0]}, {'steps': [10, 20], 'values': [0.1, 0.2]}
    scalars = [
        {'run': 'A, MAE-1', 'val/coco/bbox_mAP': {'steps': [10], 'values': [0.3]}},
        {'run': 'A, MAE-0', 'train/loss': loss, 'val/coco/bbox_mAP': metric},
        {'run': 'A, scratch-0', 'train/loss': loss},  # did not validate
    ]
    few = list_columns(experiment)[0]
    curves = collect_curves(experiment, results, scalars)
    assert curves == {('A, MAE', few): [{10: pytest.approx(10), 20: pytest.approx(20)}, {10: pytest.approx(30)}]}
    families = {entry.name: entry.name for entry in experiment.encoders}
    assert draw_curves(experiment, results, scalars, families, tmp_path / 'curves.png')
    assert np.asarray(Image.open(tmp_path / 'curves.png')).std() > 10
    assert not draw_curves(experiment, results[2:], scalars, families, tmp_path / 'none.png')
    assert not (tmp_path / 'none.png').exists()


def test_a_run_without_a_metric_that_is_asked_for_fails(monkeypatch, tmp_path):
    monkeypatch.setattr('mae_toolkit.apis.training.test', lambda *_: {'accuracy/top1': 50})
    assert _evaluate(None, 'a.pth', tmp_path, ['accuracy/top1']) == {'accuracy/top1': 50.0}
    with pytest.raises(UserError, match="no metric 'acuracy/top1'; did you mean accuracy/top1"):
        _evaluate(None, 'a.pth', tmp_path, ['acuracy/top1'])


def hold(folder, tell):
    with lock_folder(folder) as free:
        tell.send(free)
        time.sleep(60)


@pytest.mark.process
def test_a_lock_ends_with_its_process(tmp_path):
    context = multiprocessing.get_context('fork')
    told, tell = context.Pipe(duplex=False)
    other = context.Process(target=hold, args=(tmp_path, tell))
    other.start()
    assert told.recv()
    assert f'process {other.pid} on ' in find_holder(tmp_path)
    with lock_folder(tmp_path) as free:
        assert not free
    other.kill()
    other.join()
    assert (tmp_path / '.lock').is_file() and find_holder(tmp_path) is None
    with lock_folder(tmp_path) as free:
        assert free


def test_metrics_of_the_evaluators():
    def names(**evaluator):
        return find_metrics(Config({'test_dataloader': {'batch_size': 1}, 'test_evaluator': evaluator}))

    assert names(type='Accuracy', topk=(1, 5)) == ['accuracy/top1', 'accuracy/top5']
    assert {'coco/bbox_mAP', 'coco/segm_mAP_50'} <= set(names(type='CocoMetric', metric=['bbox', 'segm']))
    assert names(type='IoUMetric', iou_metrics=['mIoU']) == ['aAcc', 'mIoU', 'mAcc']
    assert names(type='MyMetric') is None


TABLES = sorted(path.parent for path in ROOT.glob('docs/results/*/results.jsonl'))


@pytest.mark.parametrize('folder', TABLES, ids=lambda path: path.name)
def test_a_table_of_the_documents_is_what_its_results_make(folder, tmp_path):
    write_again(folder, tmp_path)
    for name in ('table.md', 'table.csv', 'runs.csv'):
        assert (tmp_path / name).read_text() == (folder / name).read_text()


def test_a_yaml_has_tuples(tmp_path):
    (tmp_path / 'a.yaml').write_text(YAML.replace('tasks:', PAIRS))
    assert read_experiment(tmp_path / 'a.yaml').tasks[0].options == {'model.size': (160, 120), 'rate': 5e-4}
    (tmp_path / 'a.yaml').write_text(YAML.replace('tasks:', PAIRS.replace('120)', 'x y)')))
    with pytest.raises(UserError, match=r'\(160, x y\) is no tuple'):
        read_experiment(tmp_path / 'a.yaml')


def test_a_job_is_told_to_stop_as_early_as_its_run_has_measured(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(slurm, '_call_sbatch', lambda command: calls.append(command) or '7')
    job = SimpleNamespace(folder=tmp_path, needs=None, prepare=lambda: None)
    slurm._submit(job, [])
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'preemption.json').write_text('{"lead_seconds": 901}')
    slurm._submit(job, [])
    assert [[word for word in call if 'signal' in word] for call in calls] == [
        ['--signal=B:USR1@300'],
        ['--signal=B:USR1@901'],
    ]


def test_sharded_checkpoints_of_a_run_are_resumed_kept_as_a_file_and_removed(tmp_path):
    folder = tmp_path / 'train' / 'epoch_2.dcp'
    state, hub = {'weight': torch.arange(30.0)}, {'log_scalars': {}, 'runtime_info': {}}
    write_sharded(
        {'meta': {'iter': 4, 'epoch': 2}, 'state_dict': state, 'message_hub': hub, 'optimizer': {'b': 2}}, folder
    )
    job = Job('identity', tmp_path, SimpleNamespace(), Config(), None)
    assert job.state() == BEGUN
    worker._link(folder, tmp_path / 'pretrained.pth')
    assert torch.equal(torch.load(tmp_path / 'pretrained.pth')['state_dict']['weight'], state['weight'])
    worker.remove_weights(tmp_path)
    assert list((tmp_path / 'train').iterdir()) == []
