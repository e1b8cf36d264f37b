"""tools/transfer.py: tasks that evaluate the frozen encoder, beside those that fine-tune it."""

import csv
import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from mmengine.config import Config

from mae_toolkit.apis import evaluate, load_config
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.probes.data import ProbeResult
from mae_toolkit.evaluation.probes.report import Evaluation
from mae_toolkit.evaluation.probes.table import OF_CLASSES, Row
from mae_toolkit.export.preparation import IMAGENET, find_default_preparation, read_config
from mae_toolkit.transfer.checks import find_mistakes
from mae_toolkit.transfer.evaluations import choose_rows, list_steps, make_config
from mae_toolkit.transfer.experiment import read_experiment
from mae_toolkit.transfer.mistakes import raise_if_any
from mae_toolkit.transfer.plan import make_plan
from test_evaluate import NUCLEI
from tiny import ROOT
from transfer_toy import Tool, make_toys, write
from warm import run_python

FROZEN = {'evaluate': 'data', 'probes': ['knn', 'kmeans', 'retrieval', 'rank']}
TASKS = {
    'toy': {'config': 'toy.py', 'metrics': {'top-1': 'accuracy/top1'}},
    'frozen': FROZEN | {'poolings': ['mean', 'max']},
}
ENCODERS = {'scratch': {'encoder': 'pretrain.py'}, 'MAE': {'pretrain': 'pretrain.py'}}


def make_folder(folder):
    """Pictures and configs, of which that of pretraining says how images are normalized."""
    make_toys(folder)
    text = (folder / 'pretrain.py').read_text()
    normalized = "dict(type='ImagePreprocessor', mean=[120.0] * 3, std=[60.0] * 3)"
    (folder / 'pretrain.py').write_text(text.replace("dict(type='ImagePreprocessor')", normalized))
    return folder


@pytest.fixture(scope='module')
def toys(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp('transfer'))


@pytest.fixture(scope='module')
def tool(toys):
    tool = Tool(toys)
    yield tool
    tool.close()


@pytest.fixture(scope='module')
def finished(toys, tool):
    """The folder of a table of both kinds of tasks, and what the tool printed."""
    write(toys, encoders=ENCODERS, tasks=TASKS, labels=[0.5], seeds=[0])
    return toys, tool('run', 'table.yaml', '--jobs', 2)


def read_results(folder, task='frozen'):
    found = [json.loads(path.read_text()) for path in folder.glob('work/runs/*/result.json')]
    return {(result['encoder'], result['labels']): result for result in found if result['task'] == task}


def plan_of(folder, **changes):
    return make_plan(read_experiment(write(folder, **{'encoders': ENCODERS, 'tasks': TASKS} | changes)))


@pytest.mark.process
def test_numbers_are_those_of_evaluate_at_the_level_and_pooling_that_validation_chose(finished, monkeypatch):
    folder, text = finished
    assert '[4/4]' in text and '| scratch |' in text
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    cfg, made = load_config('pretrain.py'), next(folder.glob('work/pretrain/*/pretrained.pth'))
    found = read_results(folder)
    assert len(found) == 2
    for (encoder, fraction), result in found.items():
        checkpoint = 'random' if encoder == 'scratch' else made
        arguments = dict(probes=FROZEN['probes'], poolings=['mean', 'max'], label_fraction=fraction)
        expected = evaluate(cfg, 'data', checkpoint, **arguments)
        best = expected.best_of_each
        assert result['metrics']['knn/accuracy'] == best['knn'].result.test['accuracy']
        assert result['metrics']['retrieval/recall_at_1'] == best['retrieval'].result.test['recall_at_1']
        assert result['chosen'] == {name: row.features for name, row in best.items()} | {'rank': 'level1.mean'}
        (run,) = folder.glob(f'work/runs/*_{result["id"]}')
        whole = json.loads((run / 'evaluation.json').read_text())
        assert whole['images']['train'] == 6  # half of the 9 that are not held out: two of each class
        assert len(whole['results']) == 8 and whole['label_fraction'] == fraction
        assert (result['weights'] is None) == (encoder == 'scratch')
        assert result['frozen'] and result['config'] == 'data' and set(result['data']) == {'data/'}


@pytest.mark.process
def test_one_table_holds_probes_and_fine_tuning(finished):
    folder, _ = finished
    with open(folder / 'work/table.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['metric'] for row in rows[:5]] == ['top-1', 'kNN', 'NMI', 'mAP', 'rank']
    assert all(row['n'] == '1' for row in rows)
    keys = {'kNN': 'knn/accuracy', 'NMI': 'kmeans/nmi', 'mAP': 'retrieval/map', 'rank': 'rank/rank'}
    found = read_results(folder)
    for row in [row for row in rows if row['task'] == 'frozen']:
        value = found[row['encoder'], float(row['labels'])]['metrics'][keys[row['metric']]]
        assert float(row['mean']) == pytest.approx(value * (1 if row['metric'] == 'rank' else 100))
    text = (folder / 'work/table.md').read_text()
    assert 'In frozen, the encoder is frozen' in text and 'after the last step of training' in text
    assert '| frozen | `data` | `probes=' in text and '`level1.mean` 1x |' in text
    with open(folder / 'work/runs.csv', newline='') as file:
        read = {row['run']: row for row in csv.DictReader(file)}
    assert read[found['MAE', 0.5]['id']]['knn reads'] == found['MAE', 0.5]['chosen']['knn']


@pytest.mark.process
@pytest.mark.usefixtures('finished')
def test_what_is_done_is_kept_and_makes_its_table_again(tool, tmp_path):
    assert 'All 4 runs are done.' in tool('plan', 'table.yaml')
    tool('table', 'table.yaml', '--out', tmp_path / 'kept')
    assert (tmp_path / 'kept/configs/frozen_scratch.py').is_file()
    tool('table', '--from', tmp_path / 'kept', '--out', tmp_path / 'again')
    for name in ('table.md', 'table.csv', 'runs.csv', 'table.png'):
        assert (tmp_path / 'again' / name).read_bytes() == (tmp_path / 'kept' / name).read_bytes()


@pytest.mark.process
def test_only_the_evaluation_runs(tool, tmp_path):
    folder = make_folder(tmp_path / 'toys')
    write(folder, encoders={'scratch': ENCODERS['scratch']}, tasks=TASKS, seeds=[0])
    text = tool('run', 'table.yaml', '--only', 'task=frozen', folder=folder)
    assert '[1/1]' in text and len(read_results(folder)) == 1
    assert '1 of 2 runs are done' in tool('plan', 'table.yaml', folder=folder)


@pytest.mark.process
def test_a_process_that_has_read_nothing_of_the_table_runs_it(tmp_path):
    """As under Slurm, and on machines with GPUs: the module beside the config of the encoder is found."""
    folder = make_folder(tmp_path / 'toys')
    env = os.environ | {'PYTHONPATH': str(ROOT)}
    prepare = (
        'from mae_toolkit.transfer import make_plan, read_experiment\n'
        'for job in make_plan(read_experiment("table.yaml")).jobs: job.folder.mkdir(parents=True); job.prepare()'
    )
    write(folder, encoders={'scratch': {'encoder': '../pretrain.py'}}, tasks={'frozen': FROZEN}, seeds=[0])
    (folder / 'inside').mkdir()
    for name in ('data', 'table.yaml'):
        shutil.move(folder / name, folder / 'inside')
    assert run_python('-c', prepare, cwd=folder / 'inside', env=env).returncode == 0
    (run,) = folder.glob('inside/work/runs/*')
    command = '-m', 'mae_toolkit.transfer.worker', run
    assert run_python(*command, cwd=folder / 'inside', env=env).returncode == 0
    assert json.loads((run / 'result.json').read_text())['metrics']['knn/accuracy'] > 0


@pytest.mark.process
def test_a_failure_costs_one_run_and_says_why(tool, tmp_path):
    folder = make_folder(tmp_path / 'toys')
    tasks = {'many': FROZEN | {'neighbors': [500]}, 'few': FROZEN | {'neighbors': [2]}}
    write(folder, encoders={'scratch': ENCODERS['scratch']}, tasks=tasks, labels=[1.0], seeds=[0])
    text = tool('run', 'table.yaml', folder=folder, status=2)
    assert '1 runs failed' in text and '500 neighbors are asked for' in text
    assert read_results(folder, 'few') and not read_results(folder, 'many')
    assert '1 of 2 runs are done' in tool('plan', 'table.yaml', folder=folder)


def test_runs_are_told_apart_by_what_decides_their_numbers(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / 'toys')
    monkeypatch.chdir(folder)

    def ids(state=0.0, **changes):
        torch.save({'state_dict': {'encoder.body.weight': torch.full((8, 3, 8, 8), state)}}, 'a.pth')
        encoders = {'A': {'encoder': 'pretrain.py', 'checkpoint': 'a.pth'}, 'B': {'encoder': 'pretrain.py'}}
        plan = plan_of(folder, **{'encoders': encoders, 'tasks': {'frozen': FROZEN}} | changes)
        assert not plan.mistakes
        settings = {(job.record.label_fraction, job.record.seed, job.record.settings) for job in plan.jobs}
        assert len(settings) == len({one for *_, one in settings})  # by which results are found without data
        return {job.id for job in plan.jobs}

    first = ids()
    assert len(first) == 4 and ids() == first == ids(work_dir='other')
    assert ids(tasks={'other': FROZEN | {'metrics': {'kNN': 'knn'}}}) == first  # what is shown decides nothing
    assert len(first & ids(state=1.0)) == 2
    assert not first & ids(labels=[1.0])
    assert not first & ids(seeds=[2, 3])
    assert not first & ids(tasks={'frozen': FROZEN | {'size': 24}})
    text = (folder / 'pretrain.py').read_text()
    (folder / 'pretrain.py').write_text(text.replace('lr=1e-3', 'lr=1e-2'))
    assert ids() == first  # how it was trained decides nothing, as its weights are there
    (folder / 'pretrain.py').write_text(text.replace('size=16', 'size=24'))
    assert not first & ids()
    (folder / 'pretrain.py').write_text(text)
    shutil.copytree('data', 'elsewhere/data')
    assert ids(tasks={'frozen': FROZEN | {'evaluate': 'elsewhere/data'}}) == first
    (folder / 'data/train/dark/0.png').unlink()
    assert not first & ids()


@pytest.mark.parametrize(
    ('task', 'sentence'),
    [
        (FROZEN | {'config': 'toy.py'}, 'config is fine-tuned, and evaluate reads the frozen encoder'),
        (FROZEN | {'probes': ['knn', 'nearest']}, "there is no probe 'nearest'"),
        (FROZEN | {'probes': []}, "the key 'probes' is missing or empty"),
        (FROZEN | {'metrics': {'a': 'knn/top1'}}, "its probes give no metric 'knn/top1'; known are knn/accuracy"),
        (FROZEN | {'metrics': {'a': 'logistic'}}, "its probes give no metric 'logistic'"),
        (FROZEN | {'metrics': 'knn'}, "metrics are a dict, such as {kNN: knn}, not 'knn'"),
        (FROZEN | {'train_cfg.max_epochs': 3}, 'train_cfg.max_epochs is for a training, and evaluate trains nothing'),
        (FROZEN | {'options': {'lr': 3}}, 'options is for a training, and evaluate trains nothing'),
        (FROZEN | {'sise': 3}, "there is no key 'sise'; did you mean size"),
        (FROZEN | {'size': [3]}, r'size is a number of pixels, or height and width, not \[3\]'),
        (FROZEN | {'levels': [0]}, r'levels is a list of levels, 1 the finest, each once, not \[0\]'),
        (FROZEN | {'poolings': ['median']}, 'poolings is a list of mean, max'),
        (FROZEN | {'evaluate': 5}, 'evaluate is the path of a labeled set, not 5'),
    ],
)
def test_a_mistake_in_the_yaml_is_told(tmp_path, task, sentence):
    with pytest.raises(UserError, match=sentence):
        read_experiment(write(tmp_path, tasks={'frozen': task}))


@pytest.mark.parametrize(
    ('task', 'encoder', 'sentence'),
    [
        ({'probes': ['patch-knn']}, {}, 'The probe patch-knn does not go with class labels'),
        ({'evaluate': str(NUCLEI)}, {}, 'The probe knn does not go with masks'),
        ({'evaluate': 'nowhere'}, {}, 'the data nowhere is not there'),
        ({'levels': [2]}, {}, 'There is no level 2: the encoder has 1 level'),
        ({}, {'checkpoint': 'wrong.pth'}, r'\(4, 3, 8, 8\), the model \(8, 3, 8, 8\)'),
        ({}, {'encoder': {'type': 'ToyEncodr'}}, "'ToyEncodr'; did you mean ToyEncoder"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(tmp_path, monkeypatch, task, encoder, sentence):
    folder = make_folder(tmp_path / 'toys')
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    torch.save({'state_dict': {'encoder.body.weight': torch.zeros(4, 3, 8, 8)}}, 'wrong.pth')
    plan = plan_of(folder, encoders={'A': {'encoder': 'pretrain.py'} | encoder}, tasks={'frozen': FROZEN | task})
    with pytest.raises(UserError, match=sentence):
        raise_if_any([*plan.mistakes, *find_mistakes(plan)], 'table.yaml')


def test_scores_have_names_and_the_main_one_is_the_default(tmp_path):
    metrics = {'kNN': 'knn', 'first': 'retrieval/recall_at_1', 'share': {'metric': 'knn', 'scale': 1}, 'rank': 'rank'}
    path = write(tmp_path, tasks={'named': FROZEN | {'metrics': metrics}, 'default': FROZEN})
    named, default = read_experiment(path).tasks
    assert {metric.name: (metric.key, metric.scale) for metric in named.metrics} == {
        'kNN': ('knn/accuracy', 100),
        'first': ('retrieval/recall_at_1', 100),
        'share': ('knn/accuracy', 1),
        'rank': ('rank/rank', 1),
    }
    assert [metric.name for metric in default.metrics] == ['kNN', 'NMI', 'mAP', 'rank']
    probes = ['patch-knn', 'patch-logistic', 'patch-rank']
    (masks,) = read_experiment(write(tmp_path, tasks={'a': {'evaluate': 'b', 'probes': probes}})).tasks
    assert [metric.name for metric in masks.metrics] == ['kNN mIoU', 'logistic mIoU', 'patch-rank']
    assert [metric.key for metric in masks.metrics] == ['patch-knn/miou', 'patch-logistic/miou', 'patch-rank/rank']


def test_ranks_are_those_of_the_coarsest_level():
    def row(features, probe, val, test):
        return Row(features, probe, ProbeResult(val, test))

    rows = [
        row('level1.mean', 'knn', {'accuracy': 0.7}, {'accuracy': 0.1}),
        row('level10.max', 'knn', {'accuracy': 0.6}, {'accuracy': 0.9}),
        *(row(name, 'rank', {'rank': 9.0}, {'rank': 9.0}) for name in ('level9.mean', 'level10.mean', 'level10.max')),
    ]
    found = choose_rows(Evaluation(rows, {name: OF_CLASSES[name] for name in ('knn', 'rank')}, {}))
    assert {name: row.features for name, row in found.items()} == {'knn': 'level1.mean', 'rank': 'level10.mean'}


def test_an_encoder_that_is_a_dict_is_prepared_as_timm_says(tmp_path):
    cfg = make_config({'type': 'ViT', 'arch': 'vit_base_patch16_224.mae', 'init_cfg': {'type': 'Pretrained'}}, None)
    assert read_config(cfg) == find_default_preparation('vit_base_patch16_224.mae')
    assert 'init_cfg' not in cfg.model.encoder
    whole = replace(IMAGENET, size=(32, 48), short_side=None, interpolation='bilinear')
    assert (
        read_config(
            Config(
                dict(
                    model=dict(data_preprocessor=dict(mean=whole.mean, std=whole.std)),
                    **{
                        'val_dataloader': dict(dataset=dict(pipeline=list_steps(whole))),
                    },
                )
            )
        )
        == whole
    )


def test_options_of_an_encoder_for_a_task_that_trains_nothing_are_refused(tmp_path):
    options = {'optim_wrapper.optimizer.lr': 1.0}
    path = write(tmp_path, tasks=TASKS, encoders={'A': {'encoder': 'a.py', 'options': options}})
    experiment = read_experiment(path)
    toy, frozen = (experiment.options(experiment.encoders[0], task) for task in experiment.tasks)
    assert toy == options and frozen == {'probes': FROZEN['probes'], 'poolings': ['mean', 'max']}
    path = write(tmp_path, tasks=TASKS, encoders={'A': {'encoder': 'a.py', 'options': {'frozen': options}}})
    with pytest.raises(UserError, match="the task 'frozen' trains nothing: leave them out"):
        read_experiment(path)
