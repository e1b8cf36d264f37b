"""One guard for a whole process: no library in it executes code from a file of data.

MMEngine, MMDetection and MMSegmentation read weights by MMEngine's ``CheckpointLoader``, which falls back to unsafe
loading. Here its loaders are replaced by safe ones, and torch is forced to load weights only, wherever it is called.
"""

import collections
import functools
import os
import pickle
from pathlib import Path
from typing import Any

import torch
import yaml
from mmengine.fileio.handlers import PickleHandler, YamlHandler
from mmengine.logging import print_log

from mae_toolkit.checkpoints.checks import check_layouts
from mae_toolkit.checkpoints.files import extract_state_dict, load
from mae_toolkit.checkpoints.safe_files import harmless_classes, refusal
from mae_toolkit.engine._mmengine import replace_checkpoint_loaders, replace_file_handlers
from mae_toolkit.errors import UserError

FORCE, UNSAFE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


def _to_bytes(text, encoding='latin1'):
    """Stands for ``codecs.encode``, by which old pickles hold bytes."""
    return text.encode('latin1') if encoding == 'latin1' else _refuse(f'codecs.encode({encoding!r})')


def _refuse(name):
    raise UserError(
        f'refused: loading a .pkl file would execute code from it ({name}): save plain values, or use JSON.'
    )


# The only classes and functions that a .pkl file may name.
KINDS = (set, frozenset, bytearray, complex)
PLAIN = {(module, kind.__name__): kind for module in ('builtins', '__builtin__') for kind in KINDS}
PLAIN |= {('collections', 'OrderedDict'): collections.OrderedDict, ('_codecs', 'encode'): _to_bytes}


def refuse_code_in_files() -> None:
    """Make every way of loading weights in this process, and in those that it starts, a safe one.

    The runner and the tools call it first. After it, ``torch.load(..., weights_only=False)`` loads weights only.
    """
    if os.environ.pop(UNSAFE, None) is not None:
        print_log(f'{UNSAFE} is ignored: no code is executed from files of weights.', 'current', 30)
    os.environ[FORCE] = '1'
    replace_checkpoint_loaders(load_from_local, _safe)
    replace_file_handlers(PlainPickleHandler, SafeYamlHandler)


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Load a checkpoint from the disk, for MMEngine's ``CheckpointLoader``; always to the CPU.

    Raises:
        UserError: As :func:`~mae_toolkit.checkpoints.files.load`, and if a weight is no dense tensor.
    """
    path = Path(filename).expanduser()
    checkpoint = load(path, mmap=False)
    check_layouts(path, extract_state_dict(checkpoint))
    return checkpoint


def _safe(loader):
    """A loader of files from elsewhere, with our list of harmless classes and a sentence for all others."""

    @functools.wraps(loader)
    def load_safely(filename, *args, **kwargs):
        try:
            with torch.serialization.safe_globals(harmless_classes()):
                return loader(filename, *args, **kwargs)
        except pickle.UnpicklingError as error:
            raise refusal(filename, error) from None

    return load_safely


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles plain values; of classes, only containers."""

    def find_class(self, module, name):
        if (module, name) not in PLAIN:
            _refuse(f'{module}.{name}')
        return PLAIN[module, name]


class PlainPickleHandler(PickleHandler):
    """MMEngine's handler of .pkl files, which reads numbers, texts, lists, tuples, dicts and sets alone."""

    def load_from_fileobj(self, file, **kwargs):
        """Read a file, or raise UserError if it would execute code."""
        return _PlainUnpickler(file, **kwargs).load()


class SafeYamlHandler(YamlHandler):
    """MMEngine's handler of .yaml files without the tags by which YAML calls Python."""

    def load_from_fileobj(self, file, **kwargs):
        """Read a file, or raise UserError if a tag in it asks for Python."""
        try:
            return yaml.load(file, Loader=yaml.SafeLoader)
        except yaml.constructor.ConstructorError as error:
            raise UserError(f'refused: a YAML file asks for Python objects: {error.problem}.') from None
