"""The numbers of a fine-tuning: sizes, rates, weights of classes, and what fits into few minutes."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS
from PIL import Image

from mae_toolkit.apis import finetuning, finetuning_minutes, load_config
from mae_toolkit.apis.finetuning_arguments import list_arguments
from mae_toolkit.apis.finetuning_tasks import Plan, Wishes
from mae_toolkit.commands import main
from mae_toolkit.config.knobs import Knob
from mae_toolkit.datasets.labels.classes import ClassLabels
from mae_toolkit.datasets.labels.masks import MaskLabels, Pair
from mae_toolkit.engine.minutes import TimedLength
from mae_toolkit.errors import UserError
from mae_toolkit.planning.classification import plan_classifier, shrink_batch
from mae_toolkit.planning.detection import shrink_images
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.encoders import EncoderChoice
from mae_toolkit.planning.finetuning import Length, choose_side, plan_training, shrink_side
from mae_toolkit.planning.minutes import TimeLimit
from mae_toolkit.planning.segmentation import plan_segmenter, shrink_crop
from mae_toolkit.planning.templates import find_config
from mae_toolkit.spread import spread_indices

CPU = Device('2 CPU cores', 'cpu', 2, 0, False)
RANDOM = EncoderChoice({'type': 'ConvNeXt', 'arch': 'convnextv2_atto'}, None, '', {})


def test_a_side_is_that_of_the_user_of_the_device_or_of_the_images():
    assert choose_side('side', 500, 400, CPU, 450).value == 450
    slow = choose_side('side', 500, 400, CPU, None)
    assert slow.value == 400 and 'images have 500, more would be slow' in slow.reason
    assert choose_side('side', 330, 400, CPU, None).value == 320
    assert choose_side('side', 10, 400, CPU, None, 64).value == 64


def test_a_side_shrinks_with_the_root_of_the_time():
    assert shrink_side(Knob(256), 0.25, 96).value == 128
    assert shrink_side(Knob(256), 0.01, 96).value == 96
    assert shrink_side(Knob(96), 0.1, 96) is None


def test_the_head_has_the_rate_of_random_weights_and_the_encoder_a_share_of_it():
    rates = [
        {name: knob.value for name, knob in plan_training(100, encoder, CPU, Length(), (4, 8)).items()}
        for encoder in (
            RANDOM,
            replace(RANDOM, weights='w.pth'),
            replace(RANDOM, weights='w.pth', config={'type': 'ViT'}),
        )
    ]
    assert {rate['lr'] for rate in rates} == {1e-3}
    assert [(rate['encoder_lr'], rate['layer_decay']) for rate in rates] == [(1.0, 1.0), (0.5, 0.9), (0.3, 0.8)]


def make_pictures(tmp_path, count):
    for i in range(count):
        Image.new('L', (70, 64)).save(tmp_path / f'{i}.png')
    return ClassLabels('CSV', {'train': [(tmp_path / f'{i}.png', 'ab'[i % 2]) for i in range(count)]})


@pytest.mark.parametrize(
    ('length', 'epochs', 'reason'),
    [
        (Length(epochs=10.0), 10, 'of 70 images, given'),
        (Length(epochs=1), 1, 'of 70 images, given'),
        (Length(steps=5), 3, 'of 2 steps each: --steps 5, rounded up'),
        (Length(), 100, 'of 70 images: few images, so many epochs'),
        (Length(minutes=3), 100, 'of 70 images'),
    ],
)
def test_a_classifier_is_trained_for_the_epochs_that_are_given(tmp_path, length, epochs, reason):
    """Batches of 32 of 70 images: two steps in an epoch, and not the 2.2 of which ten epochs would be eleven."""
    knob = plan_classifier(make_pictures(tmp_path, 70), RANDOM, CPU, length)['epochs']
    assert knob.value == epochs and type(knob.value) is int and reason in knob.reason


@pytest.mark.parametrize(('epochs', 'instead'), [(0.5, '1, with .*label_fraction=0.5 '), (2.4, r'2\.$')])
def test_a_part_of_an_epoch_is_none_for_a_classifier(tmp_path, epochs, instead):
    with pytest.raises(UserError, match=rf'--epochs {epochs}: .*whole epochs of its 4 images; give {instead}'):
        plan_classifier(make_pictures(tmp_path, 4), RANDOM, CPU, Length(epochs=epochs))


def test_a_single_epoch_has_no_warmup():
    one, two = (load_config(find_config('classification/custom_classifier.py'), {'epochs': n}) for n in (1, 2))
    assert [[part.type for part in cfg.param_scheduler] for cfg in (one, two)] == [
        ['CosineAnnealingLR'],
        ['LinearLR', 'CosineAnnealingLR'],
    ]


def make_labels(tmp_path):
    pairs = [Pair(tmp_path / f'{i}.jpg', tmp_path / f'{i}.png') for i in range(2)]
    pixels = {pair.mask: {0: 80, 1: 20, 255: 7} for pair in pairs}
    sizes = {pair.mask: (100, 256) for pair in pairs}
    return MaskLabels(['background', 'nucleus', 'none'], [0, 1, 2], [255], {'train': pairs}, pixels, sizes)


def test_rare_classes_weigh_more_in_the_loss(tmp_path):
    weights = plan_segmenter(make_labels(tmp_path), RANDOM, CPU, Length())['class_weights']
    background, nucleus, none = weights.value
    assert nucleus / background == pytest.approx(2, rel=0.01)  # the root of 80 / 20
    assert none / background == pytest.approx(28, rel=0.02)  # as if it had a thousandth of the pixels
    assert 'none has 0% of the pixels' in weights.reason


@pytest.mark.slow
def test_the_loss_of_a_segmenter_takes_weights_and_ignored_pixels():
    pytest.importorskip('mmseg', reason='MMSegmentation is not installed: pip install -e .[seg]')
    scores, labels = torch.zeros(1, 2, 2, 2), torch.tensor([[[0, 0], [1, 255]]])
    scores[:, 0] = 1.0
    losses = []
    for weights in (None, [1.0, 1.0], [1.0, 4.0]):
        cfg = load_config(find_config('segmentation/custom_upernet.py'), {'class_weights': weights})
        with cfg_scope('mmseg'):
            losses.append(MODELS.build(cfg.model.decode_head.loss_decode)(scores, labels, ignore_index=255).item())
    assert losses[0] == pytest.approx(losses[1]) and losses[2] > losses[0] * 1.2


def cfg_scope(name):
    from mmengine.registry import DefaultScope

    from mae_toolkit.engine.runner import Runner  # noqa: F401

    __import__(f'{name}.models')
    return DefaultScope.overwrite_default_scope(name)


def test_steps_are_made_smaller():
    segmenter = {'crop': Knob(256), 'size': Knob(512)}
    assert {name: knob.value for name, knob in shrink_crop(segmenter, 0.25).items()} == {'crop': 128}
    detector = {'batch_size': Knob(4), 'size': Knob(416), 'anchor_scale': Knob(8)}
    assert {name: knob.value for name, knob in shrink_images(detector, 0.6).items()} == {'batch_size': 2}
    smaller = {name: knob.value for name, knob in shrink_images(detector, 0.125).items()}
    assert smaller == {'batch_size': 2, 'size': 192, 'anchor_scale': 2}
    assert shrink_batch({'batch_size': Knob(32)}, 0.7)['batch_size'].value == 22
    assert shrink_batch({'batch_size': Knob(16)}, 0.1) == {}
    assert shrink_images({'anchor_scale': Knob(8)}, 0.1) == shrink_crop({}, 0.1) == shrink_batch({}, 0.1) == {}


@pytest.mark.parametrize(
    ('minutes', 'wanted', 'crop'),
    [
        (20, {}, 256),
        (3, {}, 128),  # instead of 50 steps
        (3, {'crop': Knob(256)}, 256),
        (3, {'validations': Knob(2)}, 128),
    ],
)
def test_few_minutes_have_small_crops_and_the_plan_fits_them(tmp_path, monkeypatch, capsys, minutes, wanted, crop):
    """A step of a crop of 256 takes 2 s, one of 128 half a second."""
    written = []

    def write(plan):
        written.append(plan.knobs['crop'].value)
        return tmp_path / 'config.py'

    def time_config(config, limit):
        return TimedLength(limit.minutes, 0, 5, 2.0 * (written[-1] / 256) ** 2, 10.0, 0.0)

    monkeypatch.setattr(finetuning_minutes, 'time_config', time_config)
    counts = {'train': 100, 'val': 10, 'test': 10}
    plan = Plan(tmp_path, {'crop': Knob(256), 'steps': Knob(7)}, lambda cfg: cfg, [], counts, shrink_crop)
    fitted = finetuning_minutes.fit_plan(plan, write, TimeLimit(minutes), wanted)
    assert fitted.knobs['crop'].value == crop
    assert all(fitted.knobs[name] == knob for name, knob in wanted.items())
    used = fitted.knobs['steps'].value * 2.0 * (crop / 256) ** 2 + 10 * fitted.knobs['validations'].value + 10
    assert 0.9 * 60 * minutes < used <= 60 * minutes
    assert f'--minutes {minutes}, ' in fitted.knobs['steps'].reason
    assert 'too few' not in capsys.readouterr().out
    finetuning_minutes.fit_plan(plan, write, TimeLimit(0.2), wanted)  # four steps, a validation and a test of 10 s
    least = (10 + 4 * 2.0 * (written[-1] / 256) ** 2 + 10) / 60
    assert f'--minutes 0.2 are too few: the whole command takes about {least:.2g} minutes' in capsys.readouterr().out


def test_very_few_minutes_are_for_training_all_the_same():
    plan = SimpleNamespace(counts={'train': 9, 'val': 3})
    timed = TimedLength(2, 0, 5, 1.0, 30.0, 20.0)
    assert finetuning_minutes.count_seconds(plan, timed, TimeLimit(10)) == pytest.approx(600 - 60 - 30, abs=1)
    assert finetuning_minutes.count_seconds(plan, timed, TimeLimit(2)) == 72


def test_classes_that_are_never_found_are_named_with_what_to_try():
    segmenter = {'mIoU': 43.0, 'recall/background': 100.0, 'recall/nucleus': 0.0, 'recall/none': float('nan')}
    (said,) = finetuning._describe_lost(segmenter)
    assert said.startswith("'nucleus' is never found on the test images: train longer")
    detector = {'coco/bbox_mAP': 0.1, 'coco/a_precision': 0.0, 'coco/b_precision': 0.0, 'coco/c_precision': 0.2}
    assert finetuning._describe_lost(detector)[0].startswith("'a', 'b' are never found")
    assert finetuning._describe_lost({'accuracy/top1': 0.0, 'recall/cat': 1.0}) == []


def test_pictures_are_drawn_of_images_from_all_over_the_test(tmp_path, monkeypatch):
    """Files are sorted by class: the first twelve of 23 would be of the first classes alone."""
    files, drawn = [tmp_path / f'{i:02}.png' for i in range(23)], []
    monkeypatch.setattr(finetuning, 'find_run', lambda out: SimpleNamespace(checkpoint=out / 'best.pth'))
    monkeypatch.setattr(finetuning, 'test', lambda cfg, checkpoint, out: {'accuracy/top1': 50.0})
    monkeypatch.setattr(finetuning, 'load_predictor', lambda cfg, checkpoint: None)
    monkeypatch.setattr(finetuning, 'predict_images', lambda predictor, shown, out, force: drawn.extend(shown))
    monkeypatch.setattr(finetuning, '_list_test_images', lambda cfg: files)
    finetuning.finish(load_config(find_config('classification/custom_classifier.py')), tmp_path)
    assert len(drawn) == 12 and [int(path.stem) for path in drawn][:: len(drawn) - 1] == [0, 21]


@pytest.mark.parametrize(
    ('total', 'count', 'chosen'), [(10, 4, [0, 2, 5, 7]), (3, 5, [0, 1, 2]), (23, 2, [0, 11]), (0, 4, []), (4, 0, [])]
)
def test_some_of_many_are_spread_over_all(total, count, chosen):
    assert spread_indices(total, count) == chosen


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """A function that fine-tunes a classifier by the command's arguments, but for the training itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(finetuning, 'train', lambda cfg, out, resume: None)
    monkeypatch.setattr(finetuning, 'finish', lambda cfg, out: {})
    for i in range(8):
        (tmp_path / 'photos' / 'ab'[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new('L', (70, 64)).save(tmp_path / 'photos' / 'ab'[i % 2] / f'{i}.png')
    return lambda *given: main(['finetune', 'classify', 'photos', '--out', 'run', *map(str, given)])


@pytest.mark.parametrize(
    ('began', 'changed', 'said'),
    [
        (['--epochs', 3], ['--epochs', 4], 'arguments.epochs = 3.0, and 4.0 was given'),
        (['--epochs', 3], ['--steps', 4], 'no steps, and 4 was given'),
        (['--steps', 3], ['--steps', 4], 'arguments.steps = 3, and 4 was given'),
        (['--encoder', 'convnextv2_atto'], ['--encoder', 'resnet18'], "'convnextv2_atto', and 'resnet18' was given"),
        ([], ['--from', 'runs/photos'], 'no weights, and '),
        ([], ['--patience', 2], 'no patience, and 2 was given'),
        (['--patience', 2], ['--patience', 3], 'patience = 2, and 3 was given'),
        (['--seed', 3], ['--seed', 4], 'seed = 3, and 4 was given'),
        ([], ['--seed', 4], 'seed = 0, and 4 was given'),
        (['--ignore-index', 3], ['--ignore-index', 4], 'arguments.ignore_index = 3, and 4 was given'),
        ([], ['--images', 'elsewhere'], "elsewhere' was given"),
        (['--size', 64], ['--size', 96], 'size = 64, and 96 was given'),
    ],
)
def test_a_run_goes_on_with_its_own_arguments_alone(begin, capsys, began, changed, said):
    begin(*began)
    assert 'arguments' not in capsys.readouterr().out
    begin('--resume')
    begin('--resume', *began)
    with pytest.raises(SystemExit):
        begin('--resume', *changed)
    assert said in (printed := ' '.join(capsys.readouterr().err.split())) and 'Leave it out' in printed


def test_a_run_goes_on_with_its_own_labels_alone(begin, tmp_path):
    begin('--size', 64)
    for data in ('photos', 'photos/../photos', tmp_path / 'photos'):
        finetuning.finetune('classify', data, 'run', resume=True)
    with pytest.raises(UserError, match=r"arguments.data = '.*/photos', and '.*/other' was given: .* Give that again"):
        finetuning.finetune('classify', 'other', 'run', resume=True)


def test_weights_are_noted_so_that_they_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wishes = Wishes(tmp_path, None, None, Length(), 0)
    noted = [list_arguments(wishes, text, None)['weights'] for text in ('run', f'{tmp_path}/run', 'mae:run.pth', None)]
    assert noted == [str(tmp_path / 'run'), str(tmp_path / 'run'), 'mae:run.pth', None]


def test_a_resumed_run_keeps_its_minutes(tmp_path):
    (tmp_path / 'config.py').write_text(
        '# Written by mae-toolkit finetune classify: …\n'
        f"_base_ = '{find_config('classification/custom_classifier.py')}'\nminutes = 3.0\n"
    )
    with pytest.raises(UserError, match='began with --minutes 3.*leave --minutes 5 out'):
        finetuning.finetune('classify', 'photos', tmp_path, resume=True, minutes=5)
