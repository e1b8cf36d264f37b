"""A table so small that its runs take a second each, and the tool in forks of one process that has imported it all."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
ENCODER = """
    import os
    import time

    from torch import nn

    from mae_toolkit.models.encoders import Encoder
    from mae_toolkit.models.features import Features
    from mae_toolkit.registry import MODELS


    @MODELS.register_module(force=True)
    class ToyEncoder(Encoder):
        '''One convolution; it fails, dies or waits in its first step in training where a file asks for that.'''

        def __init__(self, channels=8, fails='', out_indices=(0,), init_cfg=None):
            super().__init__(init_cfg)
            self.in_chans, self.out_channels, self.out_strides, self.mask_unit = 3, (channels,), (8,), 8
            self.num_levels, self.out_indices, self.fails = 1, (0,), fails
            self.body = nn.Conv2d(3, channels, 8, 8)

        def stages(self, x, cells):
            x = self.body(x)
            if self.training and self.fails and os.path.exists(self.fails):
                what = open(self.fails).read()
                if what == 'die':
                    os.kill(os.getpid(), 9)
                if what == 'raise':
                    raise RuntimeError('as it was asked to')
                time.sleep(float(what))
            return Features.from_maps([x])

        def layer_depth(self, name, grouping='block'):
            return 0, 1
"""
COMMON = """
    default_scope = 'mae_toolkit'
    custom_imports = dict(imports=['toy_encoder'])
    train_dataloader = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='EpochSampler'),
        collate_fn=dict(type='mae_toolkit.image_collate'),
        dataset=dict(type='DATASET', data_root='data', split='train', pipeline=[dict(type='RandomCrop', size=16)]),
    )
    train_cfg = dict(type='EpochTrainLoop', max_epochs=2)
    optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
    default_hooks = dict(
        checkpoint=dict(type='SafeCheckpointHook', interval=1, by_epoch=False),
        iteration_seed=dict(type='IterationSeedHook'),
        logger=dict(type='LoggerHook', interval=1),
    )
    randomness = dict(seed=0)
"""
DOWNSTREAM = """
    test_dataloader = dict(
        batch_size=16,
        num_workers=0,
        sampler=dict(type='EpochSampler', shuffle=False, round_up=False),
        collate_fn=dict(type='mae_toolkit.image_collate'),
        dataset=dict(
            type='LabeledDataset',
            data_root='data',
            split='test',
            classes='train',
            pipeline=[dict(type='CenterCrop', size=16)],
        ),
    )
    test_cfg = dict(type='TestLoop')
    test_evaluator = dict(type='Accuracy', topk=(1, 2))
    model = dict(
        type='Classifier',
        data_preprocessor=dict(type='ClassificationPreprocessor'),
        num_classes=3,
        head_norm=True,
        encoder=dict(type='ToyEncoder'),
    )
"""
PRETRAINING = """
    model = dict(
        type='MaskedAutoencoder',
        data_preprocessor=dict(type='ImagePreprocessor'),
        encoder=dict(type='ToyEncoder'),
        masking=dict(type='RandomMasking', ratio=0.5),
        decoder=dict(type='TransformerDecoder', embed_dim=8, depth=1, num_heads=2),
        objectives=dict(pixel=dict(target=dict(type='PixelTarget'), losses=[dict(type='MaskedL2Loss')])),
    )
"""
TABLE = {
    'work_dir': 'work',
    'encoders': {'scratch': {'encoder': {'type': 'ToyEncoder'}}, 'MAE': {'pretrain': 'pretrain.py'}},
    'tasks': {'toy': {'config': 'toy.py', 'metrics': {'top-1': 'accuracy/top1', 'top-2': 'accuracy/top2'}}},
    'labels': [0.5],
    'seeds': [0, 1],
}


def make_toys(folder):
    """Pictures, configs and a YAML in a folder; returns it."""
    generator = np.random.default_rng(0)
    for split, count in (('train', 4), ('test', 6)):
        for name, level in (('bright', 140), ('dark', 100), ('middling', 120)):
            (folder / 'data' / split / name).mkdir(parents=True)
            for i in range(count):
                picture = (level + generator.integers(-90, 90, size=(20, 24, 3))).astype(np.uint8)
                Image.fromarray(picture).save(folder / 'data' / split / name / f'{i}.png')
    (folder / 'toy_encoder.py').write_text(textwrap.dedent(ENCODER))
    common = textwrap.dedent(COMMON)
    downstream = common.replace('DATASET', 'LabeledDataset') + textwrap.dedent(DOWNSTREAM)
    (folder / 'toy.py').write_text(downstream)
    (folder / 'pretrain.py').write_text(common.replace('DATASET', 'ImageDataset') + textwrap.dedent(PRETRAINING))
    write(folder)
    return folder


def write(folder, **changes):
    """The YAML with other values at dotted keys (``__`` for dots); returns its path."""
    table = json.loads(json.dumps(TABLE))
    for key, value in changes.items():
        node = table
        *path, last = key.split('__')
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    (folder / 'table.yaml').write_text(yaml.safe_dump(table, sort_keys=False))
    return folder / 'table.yaml'


class Tool:
    """``tools/transfer.py`` in a folder, a fork per call."""

    def __init__(self, folder, env=os.environ):
        env = env | {'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'tests')]), 'OMP_NUM_THREADS': '1'}
        self.folder = folder
        self._server = subprocess.Popen(
            [sys.executable, __file__], cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, *arguments, folder=None):
        """Begin a call; returns its process number, which is that of its group of processes, too."""
        log = self.folder / f'tool-{time.monotonic_ns()}.log'
        command = {'arguments': list(map(str, arguments)), 'folder': str(folder or self.folder), 'log': str(log)}
        pid = int(self._ask(command))
        return pid, log

    def wait(self, call):
        """Exit status and output of a call."""
        pid, log = call
        return int(self._ask({'wait': pid})), log.read_text()

    def __call__(self, *arguments, status=0, folder=None):
        """What a call prints, after its exit status was checked."""
        found, text = self.wait(self.start(*arguments, folder=folder))
        assert found == status, text
        return text

    def close(self):
        """End the process."""
        self._server.stdin.close()
        self._server.wait(600)

    def _ask(self, command):
        self._server.stdin.write(json.dumps(command) + '\n')
        self._server.stdin.flush()
        return self._server.stdout.readline()


def serve():
    """Answer calls from standard input."""
    spec = importlib.util.spec_from_file_location('transfer_tool', ROOT / 'tools' / 'transfer.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    import mae_toolkit.apis.training  # noqa: F401  which runs would import, each for itself

    for line in sys.stdin:
        command = json.loads(line)
        if 'wait' in command:
            answer = os.waitstatus_to_exitcode(os.waitpid(command['wait'], 0)[1])
        else:
            answer = os.fork() or call(tool, **command)
        print(answer, flush=True)


def call(tool, arguments, folder, log):
    """Run the tool in this process, a fork, and end it."""
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for number in (1, 2):
            os.dup2(descriptor, number)
        with contextlib.suppress(ValueError):
            os.close(0)
        tool.run_tool(lambda: tool.main(arguments))
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == '__main__':
    serve()
