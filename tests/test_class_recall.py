"""The recall of each class, of classifiers and segmenters."""

import math

import pytest
import torch

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation import ClassRecall


def make(*classes):
    metric = ClassRecall()
    metric.dataset_meta = {'classes': classes}
    return metric


def test_images_of_each_class_that_are_found():
    metric = make('ant', 'bee', 'cat', 'dog')
    scores = torch.eye(4)[[0, 1, 1, 0, 2]]
    batch = {'labels': torch.tensor([0, 0, 1, 2, 2]), 'replaced': [False] * 4 + [True]}
    metric.process(batch, list(scores))
    found = metric.evaluate(5)
    assert (found['recall/ant'], found['recall/bee'], found['recall/cat']) == (50, 100, 0)
    assert math.isnan(found['recall/dog'])


def test_pixels_of_each_class_that_are_found():
    metric = make('background', 'leaf')
    labels, predicted = torch.tensor([[0, 1, 1, 255]]), torch.tensor([[0, 0, 1, 1]])
    for guess in (predicted, torch.zeros_like(predicted)):
        metric.process({}, [{'pred_sem_seg': {'data': guess}, 'gt_sem_seg': {'data': labels}}])
    assert metric.evaluate(2) == {'recall/background': 100, 'recall/leaf': 25}


def test_images_without_names_of_classes_are_refused():
    with pytest.raises(UserError, match='no names of classes'):
        make().process({'labels': torch.tensor([0])}, [torch.ones(2)])
