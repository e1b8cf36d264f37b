"""Odd and damaged files of weights, made of a good checkpoint: as people, disks and attackers leave them."""

import argparse
import collections
import copy
import datetime
import gzip
import io
import json
import pathlib
import pickle
import tarfile
import zipfile

import numpy as np
import torch
from safetensors.torch import save

CUT_POINTS = (0.01, 0.3, 0.6, 0.95, 0.999)


class Shadowed:
    """Pickled as an OrderedDict whose attributes hide its methods."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        hidden = {'items': 5, 'get': None, 'keys': 'x', 'values': 1, '_metadata': [1], '__len__': 0}
        return collections.OrderedDict, (), hidden, None, iter(self.state.items())


def plain(checkpoint):
    """A deep copy, with histories of scalars left out, which torch.save could not write safely."""
    checkpoint = {key: copy.deepcopy(value) for key, value in checkpoint.items() if key != 'message_hub'}
    checkpoint['message_hub'] = {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}}
    return checkpoint


def first_matrix(state):
    return next(name for name, value in state.items() if value.dim() > 1 and value.is_floating_point())


def odd_tensors(x):
    """What may stand in a file where a model has the matrix ``x``, by name."""
    tall = x.flatten(1)
    integers = ('int8', 'int32', 'int64', 'uint8', 'uint16', 'bool')
    floats = ('float16', 'bfloat16', 'float64', 'float8_e4m3fn', 'float8_e5m2', 'complex64')
    found = {kind: x.to(getattr(torch, kind)) for kind in (*integers, *floats)}
    found |= {
        'coo': x.to_sparse(),
        'csr': tall.to_sparse_csr(),
        'meta': x.to('meta'),
        'quantized': torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
        'quantized by channel': torch.quantize_per_channel(
            tall, torch.ones(len(x)), torch.zeros(len(x), dtype=torch.long), 0, torch.quint8
        ),
        'nested': torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        'jagged': torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        'expanded to terabytes': torch.zeros(1).expand(10**6, 10**6),
        'huge windows': torch.zeros(10**4).as_strided((10**12,), (0,)),
        'expanded to its shape': torch.zeros(1).expand(x.shape),
        'transposed in memory': x.mT.contiguous().mT,
        'scalar': torch.tensor(1.0),
        'vector': torch.ones(7),
        'empty': torch.ones(0),
        'six dimensions': x[None, None, None, None],
        'nan': x * float('nan'),
        'inf': x + float('inf'),
        'none': None,
        'text': 'weights',
        'number': 3,
        'list': x.tolist(),
        'dict': {'inner': x},
        'numpy': x.numpy(),
        'numpy big endian': x.numpy().astype('>f4'),
        'numpy complex': x.numpy().astype(np.complex64),
        'numpy text': np.array(['a']),
        'numpy objects': np.array([{}], object),
        'parameter': torch.nn.Parameter(x),
        'with gradient': x.clone().requires_grad_(),
        'conjugate': (x + 1j * x).conj(),
    }
    return found


def odd_states(state):
    """Weights by kind of oddity: of one tensor, of all of them, of names."""
    name = first_matrix(state)
    for kind, value in odd_tensors(state[name]).items():
        yield f'tensor {kind}', {**state, name: value}
    for kind in ('int32', 'bool', 'float8_e4m3fn', 'complex64', 'float16', 'float64'):
        yield f'all {kind}', {key: value.to(getattr(torch, kind)) for key, value in state.items()}
    yield 'all scalars', {key: torch.tensor(1.0) for key in state}
    yield 'all vectors', {key: torch.ones(5) for key in state}
    yield 'all meta', {key: value.to('meta') for key, value in state.items()}
    yield 'all expanded', {key: torch.zeros(1).expand(2**20, 2**10) for key in state}
    yield 'all one storage', {key: torch.zeros(1).expand(value.shape) for key, value in state.items()}
    yield 'numpy', {key: value.numpy() for key, value in state.items()}
    yield 'one less', {key: value for key, value in state.items() if key != name}
    for key in ('other', 7, None, ('a', 'b'), b'bytes', '', 'a..b', 'x' * 5000, 'ä'):
        yield f'one more {key!r:.20}', {**state, key: torch.ones(2)}
    for prefix in ('module.', '_orig_mod.', 'module._orig_mod.', '_orig_mod.module.', 'model.', 'backbone.', 'net.a.'):
        yield f'prefix {prefix}', {prefix + key: value for key, value in state.items()}
    yield 'half a prefix', {('module.' if i % 2 else '') + key: value for i, (key, value) in enumerate(state.items())}
    yield 'two names', {**state, **{f'_orig_mod.{key}': value for key, value in state.items()}}
    yield 'shadowed methods', Shadowed(state)
    yield 'nothing', {}


def odd_containers(state):
    """Whole contents of files that hold weights elsewhere, or none."""
    cyclic = {}
    cyclic['model'] = cyclic['state'] = cyclic
    deep = {'state_dict': state}
    for _ in range(50):
        deep = {'model': deep}
    found = {
        'bare': state,
        'model': {'model': state},
        'ema alone': {'model_ema': state, 'epoch': 3},
        'state_dict_ema': {'state_dict_ema': state},
        'both': {'state_dict': state, 'state_dict_ema': state, 'epoch': 3},
        'dino': {'teacher': {f'backbone.{k}': v for k, v in state.items()}, 'student': dict(state)},
        'nested': {'state': {'model': state}},
        'deep': deep,
        'cyclic': cyclic,
        'list': [state],
        'tuple': (state, 1),
        'tensor': torch.ones(3),
        'text': 'abc',
        'none': None,
        'number': 5,
        'set': {1, 2},
        'empty': {},
        'numbers': {'state_dict': {'a': 1}},
        'state_dict is text': {'state_dict': 'abc'},
        'state_dict is a list': {'state_dict': [1], 'model': [2]},
        'state_dict is empty': {'state_dict': {}, 'model': state},
        'whole model': torch.nn.Linear(2, 2),
        'model beside': {'model': torch.nn.Linear(2, 2)},
    }
    beside = {
        'namespace': argparse.Namespace(lr=1e-3, out=pathlib.Path('runs/x')),
        'windows path': pathlib.PureWindowsPath('c:/x'),
        'date': datetime.datetime(2026, 1, 1),
        'float16': np.float16(3.5),
        'bool': np.bool_(True),
        'int8s': np.array([1], np.int8),
        'texts': np.array(['a', 'b']),
        'complex': np.complex64(1j),
        'datetimes': np.array(['2026-01-01'], 'datetime64[D]'),
        'function': torch.nn.functional.relu,
        'lambda of a class': collections.deque([1]),
        'counter': collections.Counter('aab'),
        'range': range(3),
        'bytes': b'abc',
        'size': torch.Size([1]),
        'device': torch.device('cpu'),
        'generator state': torch.get_rng_state(),
    }
    return found | {f'beside {kind}': {'model': state, 'extra': value} for kind, value in beside.items()}


def odd_parts(checkpoint):
    """Training checkpoints of which one part is not what a run saves."""

    def changed(key, **parts):
        return {**checkpoint, key: {**checkpoint[key], **parts}}

    anything = (None, 5, 'abc', [1], [], {}, torch.ones(3), True)
    for key in ('meta', 'message_hub', 'optimizer', 'param_schedulers', 'state_dict', 'ema_state_dict'):
        for value in anything:
            yield f'{key} {value!r:.20}', {**checkpoint, key: value}
    for key in ('iter', 'epoch', 'seed', 'dataset_meta', 'position_grids', 'config', 'cfg', 'experiment_name'):
        for value in (*anything, -1, 2.5, 10**30, {'classes': 5}, {'a': 'b'}, {'a': [1, 'x']}):
            yield f'meta {key} {value!r:.20}', changed('meta', **{key: value})
    for key in ('log_scalars', 'runtime_info', 'resumed_keys'):
        for value in (*anything, {'a': 1}, {5: None}, {'a': {'mae_toolkit_history': 1}}, {'loss': {'counts': 'x'}}):
            yield f'hub {key} {value!r:.20}', changed('message_hub', **{key: value})
    for name in ('keep_ckpt_ids', 'best_ckpt', 'best_score', 'last_ckpt', 'epoch', 'iter', 'max_iters', 'cfg'):
        yield f'info {name}', changed('message_hub', runtime_info={name: [1, 'x']}, resumed_keys={name: True})


def odd_schedules(checkpoint):
    """Training checkpoints with other states of the schedules."""
    for value in ([5], [{}], [{'a': 1}] * 2, {'a': []}):
        yield f'schedules {value!r:.20}', {**checkpoint, 'param_schedulers': value}
    schedules = copy.deepcopy(checkpoint['param_schedulers'])
    for key in schedules[0]:
        for value in (None, 'abc', [1]):
            other = copy.deepcopy(schedules)
            other[0][key] = value
            yield f'schedule {key} {value!r}', {**checkpoint, 'param_schedulers': other}


def odd_averages(checkpoint):
    """Training checkpoints with another running average of the weights."""
    average = {'steps': torch.tensor(1), **{f'module.{k}': v for k, v in checkpoint['state_dict'].items()}}
    name = first_matrix(average)
    for kind, value in odd_tensors(average[name]).items():
        yield f'average {kind}', {**checkpoint, 'ema_state_dict': {**average, name: value}}


def odd_optimizers(checkpoint):
    """Training checkpoints with another state of the optimizer."""

    def with_state(change):
        optimizer = copy.deepcopy(checkpoint['optimizer'])
        return {**checkpoint, 'optimizer': change(optimizer) or optimizer}

    sizes = {key: value['exp_avg'] for key, value in checkpoint['optimizer']['state'].items()}
    key = next(key for key, value in sizes.items() if value.dim() > 1)
    for kind, value in odd_tensors(sizes[key]).items():
        yield f'exp_avg {kind}', with_state(lambda o, v=value: o['state'][key].update(exp_avg=v))
        yield f'exp_avg_sq {kind}', with_state(lambda o, v=value: o['state'][key].update(exp_avg_sq=v))
    for value in (None, 'x', torch.ones(3), [1], 1j, torch.tensor(1, device='meta')):
        yield f'step {value!r:.20}', with_state(lambda o, v=value: o['state'][key].update(step=v))
    for name in ('step', 'exp_avg', 'exp_avg_sq'):
        yield f'without {name}', with_state(lambda o, n=name: (o['state'][key].pop(n), None)[1])
    for value in (None, 5, 'abc', [1]):
        yield f'state {value!r}', with_state(lambda o, v=value: o.update(state=v))
        yield f'state of one {value!r}', with_state(lambda o, v=value: o['state'].update({key: v}))
        yield f'groups {value!r}', with_state(lambda o, v=value: o.update(param_groups=v))
        yield f'group {value!r}', with_state(lambda o, v=value: o['param_groups'].__setitem__(0, v))
        for name in ('lr', 'betas', 'eps', 'weight_decay', 'params', 'initial_lr', 'foreach', 'fused', 'amsgrad'):
            yield f'{name} {value!r}', with_state(lambda o, n=name, v=value: o['param_groups'][0].update({n: v}))
    for name in ('lr', 'betas', 'eps', 'weight_decay', 'params', 'amsgrad'):
        yield f'group without {name}', with_state(lambda o, n=name: (o['param_groups'][0].pop(n), None)[1])
    yield 'no state', with_state(lambda o: o['state'].clear())
    yield 'other ids', with_state(lambda o: o['state'].update({999: o['state'][key]}))
    yield 'text ids', with_state(lambda o: o['state'].update({'a': o['state'][key]}))
    yield 'a group less', with_state(lambda o: (o['param_groups'].pop(), None)[1])
    yield 'a parameter less', with_state(lambda o: (o['param_groups'][0]['params'].pop(), None)[1])
    twice = [0] * len(checkpoint['optimizer']['param_groups'][0]['params'])
    yield 'the same twice', with_state(lambda o: o['param_groups'][0].update(params=twice))
    momenta = {key: {'momentum_buffer': value} for key, value in sizes.items()}
    yield 'of SGD', with_state(lambda o: o.update(state=momenta))


def odd_bytes(whole, rng):
    """Contents of files that damage, a server, or another program left, of a good one's."""
    for share in CUT_POINTS:
        yield f'cut at {share}', whole[: int(len(whole) * share)]
    yield 'empty', b''
    yield 'html', b'<!DOCTYPE html><html>Sign in</html>'
    yield 'git lfs', b'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n'
    yield 'gzip', gzip.compress(whole)
    yield 'text', b'hello world\n' * 9
    yield 'random', rng.bytes(3000)
    yield 'zip of rubbish', b'PK\x03\x04' + rng.bytes(3000)
    yield 'pickle 4', pickle.dumps({'a': 1}, protocol=4)
    yield 'pickle 0', pickle.dumps({'a': 1}, protocol=0)
    yield 'twice', whole + whole
    yield 'end lost', whole[:-22] + bytes(22)
    yield 'tar', _tar(whole)
    yield 'npz', _npz()
    yield 'torchscript', _torchscript()
    yield 'deflated', rewritten(whole, zipfile.ZIP_DEFLATED)
    yield 'bzip2', rewritten(whole, zipfile.ZIP_BZIP2)
    yield 'lzma', rewritten(whole, zipfile.ZIP_LZMA)
    yield 'without data.pkl', rewritten(whole, leave='data.pkl')
    yield 'without a tensor', rewritten(whole, leave='data/0')
    yield 'without version', rewritten(whole, leave='version')
    yield 'bomb', bomb()
    center = whole.rindex(b'PK\x05\x06')
    start = int.from_bytes(whole[center + 16 : center + 20], 'little')
    places = {'in': range(len(whole)), 'directory': range(start, center), 'end': range(center, len(whole))}
    for where, count in (('in', 40), ('directory', 60), ('end', 22)):
        for _ in range(count):
            place = int(rng.choice(places[where]))
            yield f'{where} {place} flipped', whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
    entry = whole.index(b'PK\x01\x02', start)
    for kind, offset, value in (('encrypted', 8, 1), ('utf-8', 9, 8), ('method 8', 10, 8), ('method 99', 10, 99)):
        yield kind, whole[: entry + offset] + bytes([value]) + whole[entry + offset + 1 :]
    yield 'no utf-8', whole[: entry + 9] + b'\x08' + whole[entry + 10 : entry + 46] + b'\xff' + whole[entry + 47 :]


def rewritten(whole, method=zipfile.ZIP_STORED, leave=None):
    """A file of torch.save, packed anew by another program."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(out, 'w', method) as target:
        for record in source.infolist():
            if leave is None or not record.filename.endswith(f'/{leave}'):
                target.writestr(record.filename, source.read(record))
    return out.getvalue()


def bomb():
    """A small archive whose directory promises gigabytes, as one of compressed zeros does."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as target:
        target.writestr('a/data.pkl', b'\x80\x02}.')
        target.writestr('a/data/0', bytes(2**20))
    whole = bytearray(out.getvalue())
    entry = whole.rindex(b'PK\x01\x02')
    whole[entry + 24 : entry + 28] = (0xF0000000).to_bytes(4, 'little')
    return bytes(whole)


def odd_safetensors(state):
    """Contents of .safetensors files, by kind."""
    state = {key: value.contiguous() for key, value in state.items()}
    whole = save(state)
    length = int.from_bytes(whole[:8], 'little')
    header = json.loads(whole[8 : 8 + length])

    def with_header(change):
        other = copy.deepcopy(header)
        text = json.dumps(change(other) or other).encode()
        return len(text).to_bytes(8, 'little') + text + whole[8 + length :]

    name = first_matrix(state)
    yield 'good', whole
    yield 'cut', whole[:-3]
    yield 'header cut', whole[: length // 2]
    yield 'header too long', (2**60).to_bytes(8, 'little') + whole[8:]
    yield 'no json', (4).to_bytes(8, 'little') + b'{{{{' + whole[8:]
    yield 'empty', b''
    yield 'nothing', save({})
    yield 'deep header', (20000).to_bytes(8, 'little') + b'[' * 20000
    for dtype in ('F8_E4M3', 'F8_E5M2', 'F8_E8M0', 'F4', 'I64', 'BOOL', 'X', 'C64', 'U16'):
        yield f'dtype {dtype}', with_header(lambda h, d=dtype: h[name].update(dtype=d))
    yield 'shape', with_header(lambda h: h[name].update(shape=[10**9, 10**9]))
    yield 'negative', with_header(lambda h: h[name].update(shape=[-1]))
    yield 'offsets', with_header(lambda h: h[name].update(data_offsets=[0, 2**60]))
    yield 'overlap', with_header(lambda h: h[name].update(data_offsets=h[list(h)[-1]]['data_offsets']))
    for grids in ('{', '5', '{"a": 5}', '{"a": [1, 2, 3]}', '{"a": ["x", 1]}', '[' * 5000):
        yield f'grids {grids:.20}', save(state, metadata={'position_grids': grids})
    yield 'fp8', save({k: v.to(torch.float8_e4m3fn) if v.dim() > 1 else v for k, v in state.items()})
    yield 'int8', save({k: v.to(torch.int8) for k, v in state.items()})
    buffer = io.BytesIO()
    torch.save(state, buffer)
    yield 'torch.save', buffer.getvalue()


def _tar(whole):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as file:
        for name in ('storages', 'tensors', 'pickle'):
            about = tarfile.TarInfo(name)
            about.size = len(whole)
            file.addfile(about, io.BytesIO(whole))
    return out.getvalue()


def _npz():
    out = io.BytesIO()
    np.savez(out, a=np.ones(3), b=np.array([{}], object))
    return out.getvalue()


def _torchscript():
    out = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), out)
    return out.getvalue()
