"""What a config says, line by line of recipes.yaml: read in the config, or in the model that it builds."""

import re
from pathlib import Path

import torch
import yaml
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from timm.layers import DropPath
from torch import nn

from mae_toolkit.apis import build_model, load_config
from mae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS, SCOPE

ROOT = Path(__file__).resolve().parents[1]
PRETRAIN = ROOT / 'configs' / 'pretrain'
PRECISIONS = {'OptimWrapper': 'fp32', 'AmpOptimWrapper': 'fp16', 'AutocastOptimWrapper': 'bf16'}
NORMS = (nn.LayerNorm, nn.BatchNorm2d, nn.SyncBatchNorm)


def recipes():
    """{path of a config: its recipe}, as recipes.yaml has them."""
    methods = yaml.safe_load((ROOT / 'tests' / 'recipes.yaml').read_text())
    return {
        PRETRAIN / method / f'{method}_{name}_imagenet.py': entries['all'] | recipe
        for method, entries in methods.items()
        for name, recipe in entries.items()
        if name != 'all'
    }


def configs():
    """Paths of all configs in a method's folder; those for images of one's own follow no publication."""
    return set(PRETRAIN.glob('*/*.py')) - set((PRETRAIN / 'custom').glob('*.py'))


class Reading:
    """One config and its model; each method that has no underscore in front reads one line."""

    def __init__(self, path):
        self.path, self.cfg = path, without_checkpoints(load_config(path))
        with torch.device('meta'):
            self.model = build_model(self.cfg)
        self.encoder, self.wrapper = self.model.encoder, self.cfg.optim_wrapper
        self.crops, self.flips = self.cfg.train_dataloader.dataset.pipeline
        (self.objective,) = self.model.objectives.values()
        (self.wanted,) = self.cfg.model.objectives.values()

    def read(self, line):
        """What the config says in a line of the recipe."""
        return getattr(self, line)() if hasattr(Reading, line) else _at(self.cfg, line)

    def batch(self):
        return self.cfg.auto_scale_lr.base_batch_size

    def lr(self):
        return self.wrapper.optimizer.lr

    def optimizer(self):
        return self.wrapper.optimizer.type

    def betas(self):
        return list(self.wrapper.optimizer.betas)

    def clip(self):
        """The norm to which gradients are clipped, by the wrapper or by the optimizer itself."""
        limit = self.wrapper.get('clip_grad', {}).get('max_norm')
        return self.wrapper.optimizer.get('max_grad_norm', limit)

    def precision(self):
        assert self.wrapper.get('dtype', 'float16') == 'float16'
        return PRECISIONS[self.wrapper.type]

    def weight_decay(self):
        """At the beginning and at the end."""
        first = self.wrapper.optimizer.weight_decay
        ratios = [s.eta_min_ratio for s in self.cfg.param_scheduler if s.get('param_name') == 'weight_decay']
        return [first, first * ratios[0] if ratios else first]

    def warmup(self):
        """Epochs, and the factor at which it begins."""
        first = self.cfg.param_scheduler[0]
        assert (first.type, first.begin) == ('LinearLR', 0)
        return [first.end, first.start_factor]

    def milestones(self):
        return self.cfg.param_scheduler[1].get('milestones')

    def end_lr(self):
        """At which the last schedule of the learning rate ends."""
        last = self.cfg.param_scheduler[1]
        if last.type == 'MultiStepLR':
            return self.lr() * last.gamma ** len(last.milestones)
        return last.eta_min if 'eta_min' in last else self.lr() * last.eta_min_ratio

    def curve(self, steps=2):
        """Learning rates and weight decays of a run whose epochs have so few steps, and those after the last."""
        init_default_scope(SCOPE)
        decay = self.wrapper.optimizer.weight_decay
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=self.lr(), weight_decay=decay)
        (group,), epochs = optimizer.param_groups, self.cfg.train_cfg.max_epochs
        schedules = [
            PARAM_SCHEDULERS.build({'end': epochs} | s, default_args=dict(optimizer=optimizer, epoch_length=steps))
            for s in self.cfg.param_scheduler
        ]
        seen = [(group['lr'], group['weight_decay'])]
        for _ in range(epochs * steps):
            optimizer.step()
            for schedule in schedules:
                schedule.step()
            seen.append((group['lr'], group['weight_decay']))
        return tuple(zip(*seen, strict=True))

    def image(self):
        """Pixels of a side, of training and validation, and for which positions are stored."""
        sizes = {self.crops.size, self.cfg.val_dataloader.dataset.pipeline[-1].size}
        sizes |= {self.cfg.model.encoder.img_size} if 'img_size' in self.cfg.model.encoder else set()
        (size,) = sizes
        return size

    def crop(self):
        assert (self.crops.type, self.crops.get('ratio')) == ('RandomResizedCrop', None)  # 3/4 to 4/3, the default
        assert (self.flips.type, self.flips.prob, self.flips.get('direction')) == ('RandomFlip', 0.5, None)
        return list(self.crops.scale)

    def interpolation(self):
        return self.crops.interpolation

    def masking(self):
        return self.cfg.model.masking.type

    def mask_ratio(self):
        return round(self.model.masking.ratio, 3)

    def mask_unit(self):
        return self.model.masking.unit

    def hidden(self):
        """Cells of an image that are hidden."""
        return self.model.masking.count_hidden((self.image() // self.model.masking.unit) ** 2)

    def predicted(self):
        return self.model.masking.count_predicted((self.image() // self.model.masking.unit) ** 2)

    def shared_mask(self):
        return self.model.masking.shared

    def fills_hidden(self):
        return self.encoder.fills_hidden

    def positions(self):
        table = getattr(self.encoder.body, 'pos_embed', None)
        return 'none' if table is None else 'learned' if table.requires_grad else 'fixed'

    def norm_eps(self):
        (eps,) = {m.eps for m in self.encoder.body.modules() if isinstance(m, NORMS)}
        return eps

    def drop_path(self):
        """Of the last block; rates rise linearly to it."""
        return max((m.drop_prob for m in self.encoder.body.modules() if isinstance(m, DropPath)), default=0.0)

    def layer_scale(self):
        (gammas,) = {block.gamma is None for stage in self.encoder.body.stages for block in stage.blocks}
        return None if gammas else self.cfg.model.encoder.get('ls_init_value', 1e-6)  # timm's default

    def grn_over_batch(self):
        return self.encoder.grn_over_batch

    def widths(self):
        return [block[0] for block in self._stages()]

    def depths(self):
        return [block[1] for block in self._stages()]

    def heads(self):
        heads = [block[2] for block in self._stages()]
        return None if None in heads else heads

    def window(self):
        """Tokens per side of a window, where the map is large enough."""
        return max(stage.blocks[0].attn.window_size[0] for stage in self.encoder.body.layers)

    def encoder_stride(self):
        return list(self.encoder.out_strides)

    def levels(self):
        """How many, from the embedded input on, none left out."""
        indices = self.encoder.out_indices
        assert list(indices) == list(range(-1, len(indices) - 1))
        return len(indices)

    def decoder(self):
        return dict(self.cfg.model.decoder)

    def target(self):
        return dict(self.wanted.target)

    def target_patch(self):
        return self.objective.target.stride

    def target_numbers(self):
        """How many numbers are predicted per position of the encoder's last map."""
        return self.objective.target.channels * (self.encoder.out_strides[-1] // self.objective.target.stride) ** 2

    def losses(self):
        return [dict(loss) for loss in self.wanted.losses]

    def decay_of(self):
        """{name of a trainable parameter: its weight decay}."""
        init_default_scope(SCOPE)
        optimizer = {k: v for k, v in self.wrapper.optimizer.items() if k != 'fused'}  # not without storage
        wrapper = dict(type='OptimWrapper', optimizer=optimizer)
        made = OPTIM_WRAPPER_CONSTRUCTORS.build(
            dict(
                type=self.wrapper.constructor,
                optim_wrapper_cfg=wrapper,
                paramwise_cfg=self.wrapper.get('paramwise_cfg'),
            )
        )(self.model)
        decays = {id(p): group['weight_decay'] for group in made.optimizer.param_groups for p in group['params']}
        return {name: decays[id(p)] for name, p in self.model.named_parameters() if p.requires_grad}

    def processes(self):
        """The example of a comment, in this file or its base: (processes, images of each)."""
        text = self.path.read_text()
        found = re.search(r'(\d+)\s+(?:# )?processes\s+(?:# )?of\s+(?:# )?(\d+)', text)
        if found is None:
            return Reading.processes(_Path(self.path.parent / re.search(r"_base_ = '\./(.*)'", text)[1]))
        return int(found[1]), int(found[2])

    def _stages(self):
        """(width, blocks, heads or None) of each stage that timm's architecture has."""
        body = self.encoder.body
        if hasattr(body, 'stage_ends'):  # Hiera
            ends = [-1, *body.stage_ends]
            last = [body.blocks[end] for end in ends[1:]]
            return [(b.dim_out, e - s, b.attn.heads) for b, s, e in zip(last, ends, ends[1:], strict=False)]
        if hasattr(body, 'layers'):  # Swin
            return [(s.blocks[0].dim, len(s.blocks), s.blocks[0].attn.num_heads) for s in body.layers]
        if hasattr(body, 'stages'):  # ConvNeXt
            return [(s.blocks[-1].conv_dw.out_channels, len(s.blocks), None) for s in body.stages]
        if hasattr(body, 'layer1'):  # ResNet
            stages = [getattr(body, f'layer{i}') for i in range(1, 5)]
            blocks = [[name for name, _ in stage.named_children()] for stage in stages]
            return [(c, len(b), None) for c, b in zip(self.encoder.out_channels, blocks, strict=True)]
        return [(body.embed_dim, len(body.blocks), body.blocks[0].attn.num_heads)]


class _Path:
    """As much of a reading as a search for a comment needs."""

    def __init__(self, path):
        self.path = path


def without_checkpoints(cfg):
    """A config whose second networks are drawn at random, as their files are not here; weights of others are none."""
    _drop(cfg.model)
    return cfg


def _drop(node):
    for key, value in node.items():
        if key == 'checkpoint':
            node[key] = None
        elif isinstance(value, dict):
            _drop(value)


def _at(cfg, line):
    """The value at a dotted key; numbers count the items of lists."""
    for part in line.split('.'):
        cfg = cfg[int(part)] if part.isdigit() else cfg[part]
    return cfg
