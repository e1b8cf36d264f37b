"""What a pretraining is worth, in numbers and in words."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mae_toolkit.apis import build_model, load_config
from mae_toolkit.apis.verdict import _describe_course, _describe_score, _suggest
from mae_toolkit.engine.loops import draw_fixed_masks
from mae_toolkit.engine.watch_record import WatchRecord
from mae_toolkit.evaluation.reconstruction import ReconstructionScore, measure_reconstruction
from tiny import OPTIONS, QUICKSTART


class Constant(nn.Module):
    """A head that predicts the same everywhere, or what it is given."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value if self.value.ndim == 4 else self.value.expand(len(x), -1, *x.shape[-2:]).contiguous()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model(load_config(QUICKSTART, OPTIONS))


def batches_of(model, count=2):
    torch.manual_seed(1)
    for seed in range(count):
        imgs = torch.randn(4, 3, 32, 32)
        yield imgs, draw_fixed_masks(model.masking, imgs, range(4 * seed, 4 * seed + 4))


def test_a_perfect_and_a_flat_prediction(model):
    ((imgs, mask),) = batches_of(model, 1)
    objective = model.objectives['pixel']
    objective.head = Constant(objective.target(imgs))
    perfect = measure_reconstruction(model, [(imgs, mask)])
    assert perfect.images == 4 and perfect.loss == 0 and perfect.explained == 1
    assert perfect.texture == pytest.approx(1)
    colors = torch.tensor([0.1, -0.2, 0.3]).repeat_interleave(64).view(1, -1, 1, 1)
    objective.head = Constant(colors)
    flat = measure_reconstruction(model, batches_of(model))
    assert flat.images == 8 and flat.texture == pytest.approx(0, abs=1e-3)
    assert flat.loss > flat.loss_of_mean > 0.9 and flat.explained < 0


def test_the_loss_of_the_mean_is_that_of_the_best_color(model):
    ((imgs, mask),) = batches_of(model, 1)
    score = measure_reconstruction(model, [(imgs + torch.tensor([5.0, 0, 0]).view(3, 1, 1), mask)])
    assert score.loss_of_mean == pytest.approx(1, rel=0.05)  # the mean of each channel is not counted
    assert model.training


CASES = {
    'nothing': (0.99, 0.05, [1.0] * 16, ['1% less', 'one flat color', 'next to nothing', 'no longer falls']),
    'begun': (0.9, 0.3, [1 - i / 100 for i in range(16)], ['10% less', 'begun to learn', 'still falling']),
    'much': (0.4, 0.8, [1.0, 0.8, 0.5] + [0.4] * 13, ['60% less', 'reconstruction.png']),
    'by heart': (0.6, 0.8, [1.0, 0.8, 0.5] + [0.2] * 13, ['by heart']),
}
WORSE = WatchRecord('knn', 100, 100, 10, rows=[{'step': 0, 'knn': 80.0}, {'step': 100, 'knn': 40.0}])
WORDS = {word for *_, words in CASES.values() for word in words if '%' not in word} - {'reconstruction.png'}


@pytest.mark.parametrize('case', CASES)
def test_words_follow_from_the_numbers(case):
    loss, texture, losses, said = CASES[case]
    score = ReconstructionScore(50, loss, 1.0, texture)
    text = ' '.join([*_describe_score(score), *_describe_course(score, losses), *_suggest(score, losses)])
    assert all(part in text for part in said)
    assert not [word for word in WORDS - set(said) if word in text]


def test_what_is_suggested_fits_what_was_seen():
    score, falling = ReconstructionScore(50, 0.9, 1.0, 0.3), CASES['begun'][2]
    text = ' '.join(_suggest(score, falling, WORSE))
    assert 'lower rate of the encoder' in text and 'train longer' not in text
    scratch = replace(WORSE, from_scratch=True)
    assert 'train longer' in ' '.join(_suggest(score, falling, scratch))
    few = ' '.join(_suggest(score, [1.0, 0.9]))
    assert 'very few steps' in few and 'falling' not in few
    assert 'went from 0.5' in ' '.join(_describe_course(score, [0.5] * 8 + [0.9] * 8))  # it rose
