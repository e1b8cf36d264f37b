"""Which files of weights are loaded: the containers, the prefixes and the formats in which people have them.

Each format writes the weights of a small model with random numbers. They are put under each prefix and into each
container, saved, and loaded into another model of the same kind, whose features are then compared.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mae_toolkit.checkpoints.checks import COUNTER
from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.names import BODY, FORMATS, Format, find_format
from mae_toolkit.checkpoints.names.efficientnet import EFFICIENTNETS
from mae_toolkit.checkpoints.prefixes import take_off
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder, MaskedAutoencoder
from mae_toolkit.printing import format_count
from mae_toolkit.registry import build

State = dict[str, Tensor]
SIZE = 32  # pixels per side of the images
LINEAR: dict[str, Any] = {'type': 'LinearDecoder'}
TRANSFORMER: dict[str, Any] = {'type': 'TransformerDecoder', 'embed_dim': 8, 'depth': 1, 'num_heads': 2}
VIT: dict[str, Any] = {'type': 'ViT', 'img_size': SIZE, 'patch_size': 8, 'embed_dim': 8, 'depth': 2, 'num_heads': 2}
DINO = VIT | {'arch': 'vit_base_patch14_reg4_dinov2', 'mask_token': True}
SWIN: dict[str, Any] = {'type': 'Swin', 'img_size': SIZE, 'depths': (2, 1), 'embed_dim': 8, 'num_heads': (1, 2)}
SWIN |= {'window_size': 4}
HIERA: dict[str, Any] = {'type': 'Hiera', 'arch': 'hiera_tiny_224', 'img_size': 64, 'embed_dim': 8, 'num_heads': 1}
HIERA |= {'q_pool': 2, 'stages': (1, 1, 2, 1), 'out_indices': (0, 1, 3)}
ABSWIN = HIERA | {'abs_win_pos_embed': True, 'global_pos_size': (4, 4)}
FUSION = TRANSFORMER | {'fusion': True, 'positions': 'learned'}
CONVNEXT: dict[str, Any] = {'type': 'ConvNeXt', 'depths': (1, 2, 1, 1), 'dims': (8, 8, 8, 8)}
EVA: dict[str, Any] = {'type': 'Eva', 'arch': 'vit_small_patch16_dinov3_qkvb', 'img_size': SIZE, 'embed_dim': 8}
EVA |= {'depth': 2, 'num_heads': 2, 'mask_token': True}
RESNET: dict[str, Any] = {'type': 'SparseCNN', 'arch': 'resnet18'}
RESNET_D: dict[str, Any] = {'type': 'SparseCNN', 'arch': 'resnet26d', 'layers': (1, 1, 1, 1)}
RESNET_D |= {'channels': (8, 8, 8, 8)}
# Encoders and decoders, from which each format takes the first that it can write.
MODELS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    (VIT, TRANSFORMER),
    (VIT, TRANSFORMER | {'positions': 'learned'}),
    (VIT, {'type': 'CrossAttentionDecoder', 'embed_dim': 8, 'depth': 2, 'num_heads': 2}),
    (VIT | {'arch': 'vit_base_patch16_clip_224'}, TRANSFORMER),
    (VIT | {'mask_token': True}, LINEAR),
    (VIT | {'arch': 'beit_base_patch16_224', 'use_abs_pos_emb': True, 'mask_token': True}, LINEAR),
    (DINO, LINEAR),
    (DINO | {'arch': 'vit_giant_patch14_reg4_dinov2'}, LINEAR),
    (EVA, LINEAR),
    (EVA | {'arch': 'vit_small_plus_patch16_dinov3_qkvb'}, LINEAR),
    (EVA | {'arch': 'eva02_base_patch16_clip_224'}, LINEAR),
    (SWIN, TRANSFORMER),
    (SWIN | {'mask_token': True}, LINEAR),
    (SWIN | {'arch': 'swinv2_tiny_window8_256', 'mask_token': True}, LINEAR),
    (HIERA, FUSION),
    (ABSWIN, FUSION),
    (HIERA | {'stages': (1, 2, 7, 2)}, FUSION),
    (CONVNEXT | {'arch': 'convnext_atto'}, {'type': 'ConvNeXtDecoder', 'embed_dim': 8}),
    (CONVNEXT | {'arch': 'convnextv2_atto'}, {'type': 'ConvNeXtDecoder', 'embed_dim': 8}),
    (CONVNEXT | {'arch': 'convnext_atto', 'out_indices': (0, 1, 2, 3)}, {'type': 'UNetDecoder', 'width': 32}),
    (RESNET_D, {'type': 'UNetDecoder', 'width': 32}),
    ({'type': 'SparseCNN', 'arch': 'tf_efficientnet_lite0'}, TRANSFORMER),
)
OBJECTIVES: dict[str, Any] = {'pixel': {'target': {'type': 'PixelTarget'}, 'losses': [{'type': 'MaskedL2Loss'}]}}

# What people put around a state dict, and what they write behind the name of the file.
CONTAINERS: dict[str, tuple[Callable[[State], Any], str]] = {
    'bare': (lambda state: state, ''),
    **{
        key: (lambda state, key=key: {key: state, 'epoch': 3}, '')  # type: ignore[misc]
        for key in ('model', 'state_dict', 'model_state_dict', 'net', 'weights', 'module', 'model_state', 'model_ema')
    },
    'Lightning': (lambda state: {'state_dict': state, 'pytorch-lightning_version': '2.5', 'callbacks': {}}, ''),
    'timm, with an average': (lambda state: {'state_dict': zeros(state), 'state_dict_ema': state}, '#state_dict_ema'),
    'student and teacher': (lambda state: {'student': zeros(state), 'teacher': state, 'epoch': 3}, '#teacher'),
    'nested': (lambda state: {'state': {'model': state}}, ''),
    'NumPy arrays': (lambda state: {'model': {name: tensor.numpy() for name, tensor in state.items()}}, ''),
    'bfloat16': (lambda state: {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}, ''),
    'float16': (lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()}, ''),
    'float64': (lambda state: {k: v.double() if v.is_floating_point() else v for k, v in state.items()}, ''),
    'no counters of batch norms': (lambda state: {k: v for k, v in state.items() if not k.endswith(COUNTER)}, ''),
    '.safetensors': (lambda state: state, ''),
    '.bin': (lambda state: state, ''),
}
# What names begin with; other names lie beside those behind a prefix, as those of heads and of averages do.
PREFIXES: tuple[str, ...] = (
    *('', 'module.', '_orig_mod.', 'model.', 'net.', 'backbone.', 'encoder.', 'encoder_q.', 'visual.', 'student.'),
    *('teacher.', 'module._orig_mod.', 'model._orig_mod.backbone.', 'model.student.backbone.'),
)
BESIDE = {
    'criterion.center': torch.zeros(8),
    'projector.0.weight': torch.zeros(8, 8),
    'projector.0.bias': torch.ones(8),
}


class Sample(NamedTuple):
    """A small encoder and its weights in a format.

    Attributes:
        name: Name of the format.
        encoder: Its config.
        state: The weights by the names of the format.
        weights: Those of the encoder by its own names.
    """

    name: str
    encoder: dict[str, Any]
    state: State
    weights: State


class Outcome(NamedTuple):
    """What became of a file.

    Attributes:
        sample: The format.
        container: What was around the weights.
        prefix: What their names began with.
        difference: The greatest difference of a feature; None if the file was refused.
        refusal: The sentence of the refusal.
    """

    sample: str
    container: str
    prefix: str
    difference: float | None
    refusal: str = ''


def zeros(state: Mapping[str, Tensor]) -> State:
    """Return weights of zeros."""
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def make_samples(formats: Iterable[Format] = FORMATS) -> Iterator[Sample]:
    """Write a small model in each format that can write one, and by the names of timm and of this toolkit.

    Of the formats of EfficientNet, which differ in the numbers of blocks alone, the smallest network stands for all.
    """
    models = [_make_model(*configs) for configs in MODELS]
    vit = models[0].encoder
    yield Sample('this toolkit', MODELS[0][0], dict(models[0].state_dict()), dict(vit.state_dict()))
    for config in (VIT, SWIN, HIERA, EVA, RESNET):
        weights = dict(_randomize(build(Encoder, dict(config))).state_dict())
        yield Sample(f'timm ({config["type"]})', config, take_off('body.', weights), weights)
    done: set[str] = set()  # words of formats that have a table for each size of one network
    for form in formats:
        if form.word in done or form in EFFICIENTNETS[:-1]:
            continue
        for (config, _), model in zip(MODELS, models, strict=True):
            whole = {k: v for k, v in model.state_dict().items() if form.whole or k.startswith('encoder.')}
            try:
                state = form.to_theirs(whole)
            except UserError:
                continue
            reads = any(name.startswith(BODY) for name in form.to_ours(state).weights)
            if reads and find_format(state, formats) is form:
                yield Sample(form.name, config, state, dict(model.encoder.state_dict()))
                done |= {form.word} if form.name.endswith('blocks') else set()
                break


def try_file(sample: Sample, container: str, prefix: str, folder: Path) -> Outcome:
    """Save a sample in a container, with a prefix, and load it."""
    put, part = CONTAINERS[container]
    state = {prefix + name: tensor.contiguous().clone() for name, tensor in sample.state.items()}
    content = put(state | BESIDE if prefix.count('.') > prefix.count('_orig_mod') + prefix.count('module') else state)
    path = folder / f'weights{container if container.startswith(".") else ".pth"}'
    save_file(content, path) if container == '.safetensors' else torch.save(content, path)
    encoder, expected = (build(Encoder, dict(sample.encoder)) for _ in range(2))
    dtype = {'bfloat16': torch.bfloat16, 'float16': torch.float16}.get(container)
    expected.load_state_dict({k: v.to(dtype) if v.is_floating_point() else v for k, v in sample.weights.items()})
    try:
        load_pretrained(encoder, f'{path}{part}')
    except UserError as error:
        return Outcome(sample.name, container, prefix, None, str(error).replace(f'{folder}/', ''))
    size = sample.encoder.get('img_size', SIZE)
    imgs = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = zip(encoder.eval()(imgs), expected.eval()(imgs), strict=True)
        difference = max(float((found - wanted).abs().max()) for found, wanted in maps)
    return Outcome(sample.name, container, prefix, difference)


def try_all(samples: Iterable[Sample]) -> Iterator[Outcome]:
    """Try every sample with every prefix, in containers that come in turn, so that all formats meet all of both."""
    with tempfile.TemporaryDirectory() as folder:
        for i, sample in enumerate(samples):
            for j, prefix in enumerate(PREFIXES):
                yield try_file(sample, list(CONTAINERS)[(i + j) % len(CONTAINERS)], prefix, Path(folder))


def format_table(outcomes: Iterable[Outcome]) -> str:
    """Write a row for each format, and below it the refusals."""
    rows: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        rows.setdefault(outcome.sample, []).append(outcome)
    lines = ['| names of | files | loaded | greatest difference of features |', '|---|---:|---:|---:|']
    for name, found in rows.items():
        differences = [outcome.difference for outcome in found if outcome.difference is not None]
        lines.append(f'| {name} | {len(found)} | {len(differences)} | {max(differences, default=float("nan")):.1g} |')
    refused = [outcome for found in rows.values() for outcome in found if outcome.difference is None]
    said = f'\n{format_count(len(refused), "file")} refused, such as:\n' if refused else '\nNo file is refused.'
    examples = [f'- {x.sample}, {x.container}, {x.prefix!r}: {x.refusal}' for x in refused[:6]]
    return '\n'.join([*lines, said, *examples])


def _make_model(encoder: dict[str, Any], decoder: dict[str, Any]) -> Any:
    """Build a small model with random numbers in every parameter and statistic."""
    return _randomize(MaskedAutoencoder(dict(encoder), {'type': 'RandomMasking'}, dict(decoder), OBJECTIVES))


def _randomize(model: nn.Module) -> Any:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.1)
    return model.eval()
