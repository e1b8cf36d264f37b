"""Keep all libraries of a process from executing code in data files.

MMEngine, MMDetection and MMSegmentation read weights with MMEngine's ``CheckpointLoader``, which falls back to unsafe
loading. Here its loaders are replaced by safe ones, and torch is forced to load only weights, wherever it is called.
"""

import collections
import functools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from mmengine.fileio.handlers import PickleHandler, YamlHandler
from mmengine.logging import print_log

from mae_toolkit.checkpoints.checks import check_layouts
from mae_toolkit.checkpoints.files import extract_state_dict, load
from mae_toolkit.checkpoints.safe_files import harmless_classes, refusal
from mae_toolkit.engine._mmengine_files import replace_checkpoint_loaders, replace_file_handlers
from mae_toolkit.errors import UserError

FORCE, UNSAFE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


def _encode_latin1(text: str, encoding: str = 'latin1') -> bytes:
    """Take the place of ``codecs.encode``, by which old pickles hold bytes."""
    if encoding != 'latin1':
        _refuse(f'codecs.encode({encoding!r})')
    return text.encode('latin1')


def _refuse(name: str) -> NoReturn:
    raise UserError(
        f'refused: loading a .pkl file would execute code from it ({name}): save plain values, or use JSON.'
    )


# The only classes and functions that a .pkl file may name.
CONTAINERS = (set, frozenset, bytearray, complex)
PLAIN: dict[tuple[str, str], Any] = {
    (module, cls.__name__): cls for module in ('builtins', '__builtin__') for cls in CONTAINERS
}
PLAIN |= {('collections', 'OrderedDict'): collections.OrderedDict, ('_codecs', 'encode'): _encode_latin1}


def refuse_code_in_files() -> None:
    """Make every way to load weights safe, in this process and in those that it starts.

    The runner and the tools call it first. Afterwards ``torch.load(..., weights_only=False)`` loads only weights, and
    .pkl and .yaml files are read as plain values. Calling it again changes nothing.
    """
    if os.environ.pop(UNSAFE, None) is not None:
        print_log(f'{UNSAFE} is ignored: no code is executed from files of weights.', 'current', 30)
    os.environ[FORCE] = '1'
    replace_checkpoint_loaders(load_from_local, _make_safe)
    replace_file_handlers(PlainPickleHandler, SafeYamlHandler)


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Load a checkpoint from the disk to the CPU, in place of the function of MMEngine's ``CheckpointLoader``.

    Args:
        filename: The file; ``~`` is the home folder.
        map_location: Ignored.

    Raises:
        UserError: As :func:`~mae_toolkit.checkpoints.files.load`, and if a weight is no dense tensor.
    """
    path = Path(filename).expanduser()
    checkpoint = load(path, mmap=False)
    check_layouts(path, extract_state_dict(checkpoint))
    return checkpoint


def _make_safe(loader: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a loader of files from elsewhere, so that it knows harmless classes and refuses all others in a sentence."""

    @functools.wraps(loader)
    def load_safely(filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            with torch.serialization.safe_globals(harmless_classes()):
                return loader(filename, *args, **kwargs)
        except pickle.UnpicklingError as error:
            raise refusal(filename, error) from None

    return load_safely


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler of plain values; the only classes are those of :data:`PLAIN`."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in PLAIN:
            _refuse(f'{module}.{name}')
        return PLAIN[module, name]


class PlainPickleHandler(PickleHandler):
    """Handler of .pkl files for MMEngine: only numbers, texts, lists, tuples, dicts and sets."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        """Read plain values from an open file.

        Raises:
            UserError: If loading it would execute code.
        """
        return _PlainUnpickler(file, **kwargs).load()


class SafeYamlHandler(YamlHandler):
    """Handler of .yaml files for MMEngine, without the tags by which YAML creates Python objects."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        """Read plain values from an open file.

        Raises:
            UserError: If a tag in it asks for a Python object.
        """
        try:
            return yaml.load(file, Loader=yaml.SafeLoader)
        except yaml.constructor.ConstructorError as error:
            raise UserError(f'refused: a YAML file asks for Python objects: {error.problem}.') from None
