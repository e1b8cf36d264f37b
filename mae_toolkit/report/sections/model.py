"""What the model is: its parts, its size, and how far it was trained."""

from __future__ import annotations

from typing import Any

from mae_toolkit.checkpoints.files import load
from mae_toolkit.export.description import describe_method
from mae_toolkit.printing import printable
from mae_toolkit.report.blocks import Block, Table
from mae_toolkit.report.inputs import ReportInputs
from mae_toolkit.report.section import Section

MOST_NAMED = 3  # images that could not be read


def build(inputs: ReportInputs) -> list[Block]:
    """Name the parts of the model, and count its parameters."""
    encoder, method = inputs.extractor.encoder, describe_method(inputs.cfg)
    ratio = method['ratio']
    hidden = f', {ratio:.0%} hidden' if isinstance(ratio, float) else f', {ratio} hidden' if ratio else ''
    sizes = ', '.join(f'{c} channels at 1/{s}' for c, s in zip(encoder.out_channels, encoder.out_strides, strict=True))
    preparation = inputs.transform.preparation
    rows = [
        ('encoder', inputs.encoder_name),
        ('parameters of the encoder', f'{sum(p.numel() for p in encoder.parameters()):,}'),
        ('its maps', sizes),
        ('masking', f'{method["masking"]}{hidden}' if method['masking'] else ''),
        ('decoder', method['decoder'] or ''),
        ('targets', ', '.join(f'{name}: {target}' for name, target in method['targets'].items())),
        ('images as it takes them', f'{preparation.size[0]} x {preparation.size[1]}, {preparation.channels} channels'),
        ('trained for', _describe_training(load(inputs.checkpoint, verify=False).get('meta'))),
        ('images of this report', inputs.images.note),
    ]
    return [Table('Its parts and images', (), [row for row in rows if row[1]]), *_list_skipped(inputs)]


def _describe_training(meta: Any) -> str:
    """Say for how long a checkpoint was trained, as far as it says so."""
    meta = meta if isinstance(meta, dict) else {}
    counts = [(meta.get(key), noun) for key, noun in (('epoch', 'epochs'), ('iter', 'iterations'))]
    return ', '.join(f'{count:,} {noun}' for count, noun in counts if type(count) is int)


def _list_skipped(inputs: ReportInputs) -> list[Block]:
    """Name the images that could not be read."""
    skipped = inputs.embeddings.skipped
    if not skipped:
        return []
    rows = [(printable(name), printable(reason)) for name, reason in list(skipped.items())[:MOST_NAMED]]
    more = len(skipped) - len(rows)
    tried = len(skipped) + len(inputs.images.items)
    caption = f'{len(skipped):,} of {tried:,} images could not be read, and are left out'
    return [
        Table(caption, ('image', 'reason'), rows, f'And {more:,} more.' if more > 0 else ''),
    ]


SECTION = Section('model', 'The model', build)
