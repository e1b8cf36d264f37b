"""Checks of arguments where no config is: constructors, units of pixels, and which errors become a sentence."""

import importlib
import sys
import traceback

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger

from engine_toys import loader, make_runner
from mae_toolkit.arguments import Choice, Listed, Number, check_types, has_type
from mae_toolkit.cli import run_tool
from mae_toolkit.engine.hooks import MaskingScheduleHook, NaNGuardHook, ProgressHook, ReconstructionHook
from mae_toolkit.engine.schedules import TrainingLength
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.models import ImagePreprocessor, Masking
from mae_toolkit.pixel_units import find_wrong_units
from mae_toolkit.registry import MODELS, build

SHARES = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
BYTES = dict(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


@pytest.mark.parametrize(
    ('rule', 'good', 'bad'),
    [
        (Number(0, 1), [0, 1, 0.5], [-0.1, 1.1, '0.5', None, True, float('nan'), [0.5]]),
        (Number(0, above=True, many=True), [1, [1, 2.5]], [0, [1, 0], [], [[-1]]]),
        (Number(1, whole=True, also=(None, -1)), [1, None, -1], [0, 1.0, -2, False]),
        (Number(), [-5, 1e300], [float('inf')]),
        (Choice(('a', True)), ['a', True], [1, 'b', None]),
        (Listed(Number(0), ascending=True), [[], (0, 1)], [[1, 1], [2, 1], 1, ['1'], None]),
        (Listed(Number(0), also=(None,)), [[1, 0], None], [[-1]]),
    ],
)
def test_rules(rule, good, bad):
    assert all(map(rule.accepts, good)) and not any(map(rule.accepts, bad))
    assert rule.describe()


@pytest.mark.parametrize(
    ('hint', 'good', 'bad'),
    [
        (int, [1], [1.0, '1', True, None, [1]]),
        (float, [1, 0.5], ['1', True, None]),
        (bool, [True, 0, None], ['yes', 2, [True]]),
        (str, ['a'], [1, None]),
        (int | None, [1, None], ['1']),
        (list[int], [[1], (1,)], [1, 'a', None]),
        (tuple[int, int], [(1, 2), [1, 2]], [(1,), 3]),
        (dict, [{}], [1, 'a']),
        (torch.device, ['cpu', 0], []),
    ],
)
def test_annotations(hint, good, bad):
    assert all(has_type(value, hint) for value in good) and not any(has_type(value, hint) for value in bad)


class Unannotated:
    def __init__(self, interval=10):
        """Show the type by a default."""


def test_a_default_shows_the_type_where_no_annotation_does():
    with pytest.raises(UserError, match="progress.interval='5' is a str, and a number is needed"):
        check_types('progress', Unannotated, {'interval': '5'})
    check_types('progress', Unannotated, {'interval': 5, 'unknown': '5'})
    with pytest.raises(UserError, match="progress.interval='5' is a str, and a whole number is needed"):
        check_types('progress', ProgressHook, {'interval': '5'})


@pytest.mark.parametrize(
    'build',
    [
        lambda: NaNGuardHook(max_skips=-1),
        lambda: ProgressHook(interval=0),
        lambda: ReconstructionHook(interval=0),
        lambda: ReconstructionHook(indices=3),
        lambda: MaskingScheduleHook('ratio', (0.5, 1.5)),
        lambda: MaskingScheduleHook('ratio', 0.5),
        lambda: ImagePreprocessor(mean=[0.0], std=[float('nan')]),
        lambda: ImagePreprocessor(mean='0', std=[1.0]),
    ],
)
def test_constructors_refuse(build):
    with pytest.raises(UserError):
        build()


@pytest.mark.parametrize(
    ('numbers', 'images', 'words'),
    [
        (SHARES, torch.full((2, 3, 4, 4), 200, dtype=torch.uint8), ['0.485', 'up to 200', 'by 255', '123.675']),
        (SHARES, torch.full((2, 3, 4, 4), 9000, dtype=torch.int32).to(torch.uint16), ['up to 9000', '65535']),
        (dict(mean=(0.5,) * 3, std=(0.5,) * 3), torch.full((2, 3, 4, 4), 200, dtype=torch.uint8), ['0.5', '255']),
        (dict(mean=(0.5,) * 3, std=(58.0,) * 3), torch.full((2, 3, 4, 4), 200, dtype=torch.uint8), ['two units']),
        (dict(mean=(120.0,) * 3, std=(0.2,) * 3), torch.full((2, 3, 4, 4), 200, dtype=torch.uint8), ['two units']),
        (BYTES, torch.rand(2, 3, 4, 4), ['0 to 255', 'divide', '0.485']),
    ],
)
def test_units_that_do_not_fit_the_images(numbers, images, words):
    with pytest.raises(UserError) as error:
        ImagePreprocessor(**numbers)({'imgs': images})
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ('numbers', 'images'),
    [
        (BYTES, torch.full((2, 3, 4, 4), 200, dtype=torch.uint8)),
        (BYTES, torch.zeros(2, 3, 4, 4, dtype=torch.uint8)),
        (SHARES, torch.rand(2, 3, 4, 4)),
        (dict(mean=(0.0,) * 3, std=(1.0,) * 3), torch.full((2, 3, 4, 4), 200, dtype=torch.uint8)),
        (dict(mean=(0.0,) * 3, std=(255.0,) * 3), torch.full((2, 3, 4, 4), 200, dtype=torch.uint8)),
        (dict(mean=(103.53, 116.28, 123.675), std=(1.0,) * 3), torch.full((2, 3, 4, 4), 200, dtype=torch.uint8)),
        (SHARES, torch.ones(2, 3, 4, 4, dtype=torch.uint8)),  # masks of 0 and 1
        (dict(mean=(0.0,) * 3, std=(1.0,) * 3), torch.randn(2, 3, 4, 4)),
    ],
)
def test_units_that_may_be_meant(numbers, images):
    assert ImagePreprocessor(**numbers)({'imgs': images})['imgs'].isfinite().all()


def test_units_by_numbers_alone():
    assert find_wrong_units(BYTES['mean'], BYTES['std'], 0, 255) is None
    assert 'multiply' in find_wrong_units(SHARES['mean'], SHARES['std'], 0, 255)


def test_settings_of_workers_are_left_out_where_there_are_none(tmp_path, capsys):
    settings = loader(persistent_workers=True, prefetch_factor=4, timeout=5, num_workers=0)
    runner = make_runner(tmp_path, epochs=1, train_dataloader=settings)
    runner.train()
    said = capsys.readouterr().out
    assert 'num_workers=0' in said and 'prefetch_factor=4' in said and settings['persistent_workers'] is True


def test_indices_beyond_the_images_are_said(tmp_path):
    hook = ReconstructionHook(indices=(1000, 2000))
    runner = make_runner(tmp_path)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    with pytest.raises(UserError, match='1000, 2000'):
        hook._check_indices(runner)


OWN = """
import torch
from mmengine.hooks import Hook


class Misspelt(Hook):
    def __init__(self, ratio=1):
        self.value = self.ratoi


class OfTorch(Hook):
    def __init__(self):
        torch.nn.Linear(-1, 2)

"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / 'own_parts_of_a_user.py').write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module('own_parts_of_a_user')
    sys.modules.pop('own_parts_of_a_user')


def construct(cls, **kwargs):
    return cls(**kwargs)


@pytest.mark.parametrize(('name', 'kind'), [('Misspelt', AttributeError), ('OfTorch', RuntimeError)])
def test_an_error_in_a_users_module_keeps_its_trace(own, name, kind):
    with pytest.raises(kind) as error, wrap_build_error('The hook'):
        construct(getattr(own, name))
    assert error.value.__notes__ == ['The hook cannot be built as configured.']
    assert any('own_parts_of_a_user' in str(entry.path) for entry in error.traceback)


@pytest.mark.parametrize(
    ('make', 'arguments', 'kind'),
    [
        (np.zeros, -1, ValueError),
        (torch.device, 'cuda:x', RuntimeError),
        (MODELS.build, {'type': 'ImagePreprocessor', 'means': 1}, TypeError),
        (TrainingLength, 1, TypeError),
    ],
)
def test_a_refusal_of_a_library_keeps_its_trace(make, arguments, kind):
    with pytest.raises(kind) as error, wrap_build_error('The part'):
        make(arguments)
    assert error.value.__notes__ == ['The part cannot be built as configured.']


def test_the_innermost_part_is_named():
    with pytest.raises(ValueError, match='no') as error, wrap_build_error('The model'), wrap_build_error('The masking'):
        raise ValueError('no')
    assert error.value.__notes__ == ['The masking cannot be built as configured.']


def test_a_refusal_of_our_own_is_left_as_it_is():
    with pytest.raises(UserError) as error, wrap_build_error('The model'):
        raise UserError('One sentence.')
    assert not hasattr(error.value, '__notes__')


def test_running_out_of_memory_is_no_mistake_in_a_config():
    with pytest.raises(torch.OutOfMemoryError) as error, wrap_build_error('The model'):
        raise torch.OutOfMemoryError('too little')
    assert not hasattr(error.value, '__notes__')


OWN_MASKING = """
from mae_toolkit.models import Masking


class Misspelt(Masking):
    def __init__(self, strength=1, **kwargs):
        super().__init__(**kwargs)
        self.value = self.ratoi


class OfTorch(Masking):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        torch.nn.Linear(-1, width)
"""


@pytest.fixture
def maskings(tmp_path, monkeypatch):
    (tmp_path / 'own_maskings_of_a_user.py').write_text(f'import torch\n{OWN_MASKING}')
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module('own_maskings_of_a_user')
    sys.modules.pop('own_maskings_of_a_user')


def test_a_misspelt_attribute_in_a_users_masking_shows_file_and_line(maskings):
    with pytest.raises(AttributeError, match='ratoi') as error:
        build(Masking, {'type': maskings.Misspelt, 'strength': 2})
    shown = ''.join(traceback.format_exception(error.value))
    line = 1 + OWN_MASKING.splitlines().index('        self.value = self.ratoi')
    assert f'own_maskings_of_a_user.py", line {line + 1}, in __init__' in shown
    assert shown.splitlines()[-1] == 'The masking Misspelt(strength=2) cannot be built as configured.'


def test_a_tool_ends_with_the_trace_and_the_note(maskings):
    with pytest.raises(AttributeError) as error:
        run_tool(lambda: build(Masking, {'type': maskings.Misspelt}))
    assert error.value.__notes__ == ['The masking Misspelt() cannot be built as configured.']


def test_the_log_file_of_the_run_has_the_trace(maskings, tmp_path, monkeypatch):
    logger = MMLogger('test_the_log_file', log_file=str(tmp_path / 'run.log'))
    monkeypatch.setattr(MMLogger, 'get_current_instance', lambda: logger)
    with pytest.raises(AttributeError):
        run_tool(lambda: build(Masking, {'type': maskings.Misspelt}))
    text = (tmp_path / 'run.log').read_text()
    assert 'own_maskings_of_a_user.py", line' in text
    assert text.rstrip().endswith('The masking Misspelt() cannot be built as configured.')


def test_what_a_third_party_constructor_refuses_keeps_its_trace(maskings):
    with pytest.raises(RuntimeError) as error:
        build(Masking, {'type': maskings.OfTorch, 'width': 2})
    shown = ''.join(traceback.format_exception(error.value))
    assert 'torch/nn/modules/linear.py' in shown
    assert shown.splitlines()[-1] == 'The masking OfTorch(width=2) cannot be built as configured.'


@pytest.mark.parametrize(
    ('name', 'options', 'sentence'),
    [
        ('Misspelt', {'strenght': 1}, "Misspelt has no argument 'strenght'; did you mean strength?"),
        ('Misspelt', {'ration': 0.5}, "Misspelt has no argument 'ration'; did you mean ratio?"),
        ('OfTorch', {}, "OfTorch needs the argument 'width': set it in the config."),
    ],
)
def test_arguments_that_a_users_class_does_not_take_or_lacks_are_a_sentence(maskings, name, options, sentence):
    with pytest.raises(UserError) as error:
        build(Masking, {'type': getattr(maskings, name), **options})
    assert str(error.value) == sentence
