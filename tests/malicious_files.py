"""Files of weights that run code where they are unpickled without care; the code makes a file, the marker."""

import builtins
import importlib
import io
import os
import pickle
import subprocess
import tarfile
import zipfile

import numpy as np
import torch

WEIGHTS = {'a.weight': torch.arange(6.0).view(2, 3), 'b': torch.ones(2)}
PROTOCOLS = range(6)


class Call:
    """Unpickled as what a function returns."""

    def __init__(self, function, *args):
        self.made = function, args

    def __reduce__(self):
        return self.made


def calls(marker):
    """Functions by which a pickle can make the marker, directly or in steps."""
    touch, text = f'touch {marker}', f'open({str(marker)!r}, "w").close()'
    return {
        'os.system': Call(os.system, touch),
        'eval': Call(builtins.eval, text),
        'exec': Call(builtins.exec, text),
        'open': Call(builtins.open, str(marker), 'w'),
        'subprocess': Call(subprocess.call, touch.split()),
        'import': Call(importlib.import_module, 'antigravity'),
        'getattr': Call(getattr, Call(importlib.import_module, 'os'), 'system'),
        'torch.load': Call(torch.load, str(marker.with_suffix('.inner'))),
        'numpy': Call(np.save, str(marker), 1),
        'torch.save': Call(torch.save, 1, str(marker)),
    }


def malicious(marker):
    """Pairs of a kind and the bytes of such a file."""
    system = calls(marker)['os.system']
    for name, call in calls(marker).items():
        yield f'{name} beside weights', saved({'state_dict': WEIGHTS, 'x': call})
    yield 'among weights', saved({'state_dict': {**WEIGHTS, 'x': system}})
    yield 'as the weights', saved({'state_dict': system})
    yield 'as the file', saved(system)
    yield 'as a key', saved({'state_dict': WEIGHTS, ('a', system): 1})
    yield 'in a NumPy array', saved({'state_dict': WEIGHTS, 'x': np.array([system], object)})
    yield 'in a message hub', saved(training(marker) | {'message_hub': {'log_scalars': {'a': system}}})
    yield 'in an optimizer', saved(training(marker) | {'optimizer': {'state': {0: system}, 'param_groups': [{}]}})
    yield 'in schedules', saved(training(marker) | {'param_schedulers': [system]})
    yield 'legacy', saved({'state_dict': WEIGHTS, 'x': system}, _use_new_zipfile_serialization=False)
    yield 'legacy, among weights', saved({**WEIGHTS, 'x': system}, _use_new_zipfile_serialization=False)
    for protocol in PROTOCOLS:
        yield f'pickle {protocol}', pickle.dumps({'state_dict': {}, 'x': system}, protocol)
        yield f'data.pkl of protocol {protocol}', _with_pickle(saved(WEIGHTS), pickle.dumps(system, protocol))
    yield 'tar', _tar(pickle.dumps(system, 2))
    yield 'npz', _npz(system)
    yield 'npy', _npy(system)


def saved(content, **options):
    """The bytes that torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def training(marker):
    """A training checkpoint with a config that is a program, which MMEngine executes when it resumes."""
    return {
        'meta': {'iter': 5, 'epoch': 1, 'config': f'open({str(marker)!r}, "w").close()'},
        'state_dict': WEIGHTS,
        'message_hub': {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}},
        'optimizer': {'state': {}, 'param_groups': []},
    }


def _with_pickle(whole, content):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(out, 'w') as target:
        for record in source.infolist():
            target.writestr(record.filename, content if record.filename.endswith('data.pkl') else source.read(record))
    return out.getvalue()


def _tar(content):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as file:
        for name in ('storages', 'tensors', 'pickle'):
            about = tarfile.TarInfo(name)
            about.size = len(content)
            file.addfile(about, io.BytesIO(content))
    return out.getvalue()


def _npz(value):
    out = io.BytesIO()
    np.savez(out, a=np.array([value], object))
    return out.getvalue()


def _npy(value):
    out = io.BytesIO()
    np.save(out, np.array([value], object))
    return out.getvalue()
