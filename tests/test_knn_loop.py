"""The nearest neighbors of what a classifier pools, beside its accuracy."""

import pytest
import torch

import test_classification_run
from mae_toolkit.engine import Runner
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation import compute_knn_accuracy
from mae_toolkit.registry import DATASETS

folder = test_classification_run.folder  # dark, middling and bright pictures


def make_runner(folder, loop=None, **changes):
    cfg = test_classification_run.config(folder)
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.test_cfg, cfg.work_dir = {'type': 'KNNTestLoop', **(loop or {})}, str(folder / 'work')
    cfg.merge_from_dict(changes)
    return Runner.from_cfg(cfg)


def pool(runner, split):
    """Pooled features and labels of the images of a split, one by one."""
    pipeline = [{'type': 'CenterCrop', 'size': 16}]
    items = DATASETS.build(runner.cfg[f'{split}_dataloader'].dataset | {'pipeline': pipeline})
    model = runner.model.eval()
    with torch.no_grad():
        imgs = [model.data_preprocessor({'imgs': items[i]['img'][None]}, False)['imgs'] for i in range(len(items))]
        return torch.cat([model.pool(img) for img in imgs]), torch.tensor(items.labels)


def test_neighbors_are_those_of_the_pooled_training_images(folder):
    runner = make_runner(folder, {'k': 3})
    metrics = runner.test()
    expected = compute_knn_accuracy(*pool(runner, 'train'), *pool(runner, 'val'), k=3)
    assert metrics['knn/top1'] == pytest.approx(100 * expected)
    assert expected > 0.8  # brightness is easy to tell
    assert metrics['knn/top1'] != pytest.approx(metrics['accuracy/top1'])  # of a linear layer that nobody trained


def test_repeated_images_vote_once_and_the_share_of_the_labels_counts(folder):
    """With one image of each class, all three vote among k=3, whose nearest decides; repeated ones would vote alone."""
    few = {'train_dataloader.dataset.label_fraction': 0.01, 'train_dataloader.dataset.repeat': 5}
    runner = make_runner(folder, {'k': 3}, **few)
    seen = []
    extract = runner.test_loop._extract
    runner.test_loop._extract = lambda dataset: seen.append(len(dataset)) or extract(dataset)
    runner.test()
    assert seen == [3, 24]


def test_a_model_that_pools_nothing_is_refused(folder):
    runner = make_runner(folder)
    runner.model = torch.nn.Linear(1, 1)
    with pytest.raises(UserError, match='KNNTestLoop compares what a Classifier pools: a Linear is none'):
        runner.test()
