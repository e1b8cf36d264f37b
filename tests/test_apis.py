"""The functions for scripts and notebooks: complete, typed, and without the libraries that a task does not need."""

import dataclasses
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


# Classes that keep a model between calls, and the functions that make them.
CLASSES = {
    'AnomalyDetector': ('fit_anomaly_detector', 'load_anomaly_detector'),
    'FeatureExtractor': ('load_feature_extractor',),
    'Reconstructor': ('load_reconstructor',),
}
RESULTS = ('Explanation',)  # classes of what functions return


def check_is_result(cls):
    """A class whose docstring names every field."""
    assert all(f'{field.name}: ' in inspect.getdoc(cls) for field in dataclasses.fields(cls))


def test_what_is_promised_is_there_and_nothing_hides_behind_a_module_of_its_name():
    assert set(PROMISED) <= set(apis.__all__)
    for name in apis.__all__:
        is_class = name in CLASSES or name in RESULTS
        assert inspect.isclass(getattr(apis, name)) if is_class else inspect.isfunction(getattr(apis, name))


def check_described(function, text):
    """Every parameter and the result have a type, and every parameter a line of the text."""
    parameters = set(inspect.signature(function).parameters) - {'self'}
    assert parameters | {'return'} == set(typing.get_type_hints(function)), function
    assert all(f'{parameter}: ' in text for parameter in parameters), f'{function}: {text}'


@pytest.mark.parametrize('name', [name for name in apis.__all__ if name not in CLASSES])
def test_every_function_is_annotated_and_documented(name):
    function = getattr(apis, name)
    if name in RESULTS:
        check_is_result(function)
    else:
        check_described(function, inspect.getdoc(function))


@pytest.mark.parametrize('name', CLASSES)
def test_the_classes_are_made_and_used_alike(name):
    """Each is called with images, draws and writes; each method is annotated and documented."""
    cls = getattr(apis, name)
    assert 'Example::' in inspect.getdoc(cls)
    for maker in CLASSES[name]:
        assert typing.get_type_hints(getattr(apis, maker))['return'] is cls
    for method in ('__call__', 'draw', 'write'):
        function = getattr(cls, method)
        check_described(function, inspect.getdoc(function))
        assert next(iter(list(inspect.signature(function).parameters)[1:])) in ('images', 'image')


@pytest.mark.process
def test_neither_mmdetection_nor_mmsegmentation_is_imported():
    code = 'import sys, mae_toolkit.apis; print(sorted({"mmdet", "mmseg"} & set(sys.modules)))'
    done = run_python('-c', code)
    assert done.stdout.strip() == '[]', done.stderr
