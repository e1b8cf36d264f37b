"""The quickstart made so small that a run takes a second; the tools run on it, in this process or in their own."""

import contextlib
import io
import multiprocessing
import os
import random
import runpy
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from mmengine.utils import ManagerMixin

from warm import run_python

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / 'configs' / 'pretrain' / 'quickstart.py'

OPTIONS = {
    'model.encoder.img_size': 32,
    'model.encoder.embed_dim': 24,
    'model.encoder.depth': 1,
    'model.encoder.num_heads': 2,
    'model.decoder.embed_dim': 16,
    'model.decoder.depth': 1,
    'model.decoder.num_heads': 2,
    'train_dataloader.batch_size': 8,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'train_dataloader.dataset.repeat': 1,
    'train_dataloader.dataset.pipeline.0.size': 32,
    'val_dataloader.dataset.pipeline.0.size': 32,
    'val_dataloader.dataset.pipeline.1.size': 32,
    'train_cfg.max_epochs': 2,
    'train_cfg.val_interval': 1,
    'param_scheduler.0.end': 1,
    'param_scheduler.1.begin': 1,
    'default_hooks.checkpoint.interval': 1,
    'default_hooks.reconstruction.interval': 1,
    'default_hooks.reconstruction.indices': (0, 1),
    'default_hooks.logger.interval': 1,
    'env_cfg.num_threads': 1,
}


def options(**changes):
    """The options as --cfg-options; keys of ``changes`` have ``__`` for dots."""
    merged = OPTIONS | {key.replace('__', '.'): value for key, value in changes.items()}
    return ['--cfg-options', *(f'{key}={value}' for key, value in merged.items())]


def command(tool, *arguments, **changes):
    """Command line of a tool on the small quickstart."""
    return [sys.executable, str(ROOT / 'tools' / f'{tool}.py'), *map(str, arguments), *options(**changes)]


def run(tool, *arguments, status=0, plain=False, **changes):
    """Run a tool in a process of its own, ``plain`` without the options above; return what it printed.

    Its exit status must be the one that is given. The test has the mark ``process``.
    """
    done = run_python(*(_arguments(tool, *arguments) if plain else command(tool, *arguments, **changes)[1:]))
    assert done.returncode == status, f'{done.stdout}\n{done.stderr}'
    return done.stdout + done.stderr


def call(tool, *arguments):
    """Run a tool in this process, from the repository; return its exit status and what it printed."""
    tool, *arguments = _arguments(tool, *arguments)
    printed = io.TextIOWrapper(io.BytesIO(), encoding='utf-8')
    with contextlib.ExitStack() as stack:
        stack.enter_context(new_engine_state())
        stack.enter_context(contextlib.chdir(ROOT))
        stack.enter_context(mock.patch.object(sys, 'argv', [tool, *arguments]))
        stack.enter_context(contextlib.redirect_stdout(printed))
        stack.enter_context(contextlib.redirect_stderr(printed))
        status = 0
        try:
            runpy.run_path(tool, run_name='__main__')
        except SystemExit as end:
            status = end.code or 0
    printed.seek(0)
    return status, printed.read()


def run_here(tool, *arguments, plain=False, **changes):
    """Run a tool in this process; return what it printed."""
    status, text = call(tool, *arguments, *(() if plain else options(**changes)))
    assert status == 0, text
    return text


def refuse(tool, *arguments, plain=False, **changes):
    """Run a tool that must refuse, in this process; return its one sentence."""
    more = () if plain else options(**changes)
    return refusal(*call(tool, *arguments, *more))


def refusal(status, text):
    """The one sentence of a tool that refused."""
    assert status == 2 and 'Traceback' not in text, text
    lines = [line for line in text.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1, text
    return lines[0]


@contextlib.contextmanager
def new_engine_state():
    """Let a run begin as in a new process, and leave this process as it was.

    What MMEngine keeps for a whole process are its loggers, its message hubs, its scopes and visualizers; a run also
    sets the environment, the seeds, the threads and the way to start workers.
    """
    kinds = list(_subclasses(ManagerMixin))
    kept = [(kind, dict(kind._instance_dict)) for kind in kinds]
    method, threads = multiprocessing.get_start_method(allow_none=True), torch.get_num_threads()
    seeds = random.getstate(), np.random.get_state(), torch.get_rng_state()
    for kind in kinds:
        kind._instance_dict.clear()
    try:
        with mock.patch.dict(os.environ):
            for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'):
                os.environ.pop(name, None)
            yield
    finally:
        for kind, instances in kept:
            for logger in kind._instance_dict.values():
                for handler in getattr(logger, 'handlers', ()):
                    handler.close()
            kind._instance_dict.clear()
            kind._instance_dict.update(instances)
        multiprocessing.set_start_method(method, force=True)
        torch.set_num_threads(threads)
        random.setstate(seeds[0])
        np.random.set_state(seeds[1])
        torch.set_rng_state(seeds[2])


def _arguments(tool, *arguments):
    return [str(ROOT / 'tools' / f'{tool}.py'), *map(str, arguments)]


def _subclasses(kind):
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)
