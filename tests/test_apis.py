"""The functions for scripts and notebooks: complete, typed, and without the libraries that a task does not need."""

import inspect
import typing

import pytest

from mae_toolkit import apis
from warm import run_python

# Functions for scripts that the house's plan promises.
PROMISED = (
    'build_model',
    'export_encoder',
    'fit_encoder',
    'load_config',
    'load_encoder',
    'load_predictor',
    'model_from_checkpoint',
    'predict_images',
    'reconstruct_images',
    'set_label_fraction',
    'test',
    'train',
)


def test_what_is_promised_is_there_and_nothing_hides_behind_a_module_of_its_name():
    assert set(PROMISED) <= set(apis.__all__)
    assert all(inspect.isfunction(getattr(apis, name)) for name in apis.__all__)


@pytest.mark.parametrize('name', apis.__all__)
def test_every_function_is_annotated_and_documented(name):
    function = getattr(apis, name)
    parameters = inspect.signature(function).parameters
    hints = typing.get_type_hints(function)
    assert set(parameters) | {'return'} == set(hints)
    text = inspect.getdoc(function)
    assert all(f'{parameter}: ' in text for parameter in parameters), text


@pytest.mark.process
def test_neither_mmdetection_nor_mmsegmentation_is_imported():
    code = 'import sys, mae_toolkit.apis; print(sorted({"mmdet", "mmseg"} & set(sys.modules)))'
    done = run_python('-c', code)
    assert done.stdout.strip() == '[]', done.stderr
