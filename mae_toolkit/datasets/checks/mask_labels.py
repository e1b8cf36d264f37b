"""Labels in masks: of no class, cut to 8 bits, in another order than meant, and classes without a pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from mae_toolkit.datasets.checks.images import THREADS
from mae_toolkit.datasets.checks.mask_reader import VALUES, MaskLabels, MaskReader, read_mask
from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.datasets.checks.unreadable import add_unreadable
from mae_toolkit.printing import some

SHOW_PROGRESS = 200  # masks that take long enough for a progress bar


def add_label_findings(
    report: SplitReport, dataset: Any, infos: Sequence[dict], reader: MaskReader, count: int, cfg: Mapping
) -> None:
    """Read some masks, evenly spread, and report labels that are of no class, and classes without a pixel."""
    chosen = [infos[i * len(infos) // count] for i in range(count)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda info: read_mask(info, reader), chosen)
        found = list(tqdm(found, 'reading masks', count, leave=False, delay=1, disable=count < SHOW_PROGRESS))
    _add_broken(report, found, reader)
    ignored = ignored_label(cfg)
    _add_deep(report, found, ignored)
    read = [mask for mask in found if not mask.reason and mask.channels == 1 and not mask.has_fractions]
    classes = _classes(dataset, cfg)
    if not read or not classes:
        return
    if not dataset.label_map and not dataset.reduce_zero_label:
        _add_palette_findings(report, read, classes, dataset.metainfo.get('palette') or ())
    pixels = sum(mask.pixels for mask in read)
    report.classes = {name: int(pixels[label]) for label, name in enumerate(classes)}
    _add_beyond(report, read, len(classes), ignored)
    blank = [mask.path for mask in read if mask.pixels.sum() == mask.pixels[ignored]]
    for path in blank if len(blank) < len(read) else ():
        report.add(f'masks hold nothing but the ignored label {ignored}', path, total=len(read))
    if len(read) == report.annotations and not report.errors:
        _add_absent(report, len(read), classes, pixels, ignored, dataset.reduce_zero_label)


def ignored_label(cfg: Mapping) -> int:
    """Return the label that the heads of a segmenter's config ignore."""
    head = (cfg.get('model') or {}).get('decode_head') or {}
    head = head[-1] if isinstance(head, list | tuple) and head else head
    label = head.get('ignore_index', 255) if isinstance(head, Mapping) else 255
    return label if isinstance(label, int) and 0 <= label < VALUES else 255


def _classes(dataset: Any, cfg: Mapping) -> list[str]:
    """Name the classes, by their number where the dataset has no names and the head says how many they are."""
    classes = dataset.metainfo.get('classes')
    if classes:
        return list(classes)
    head = (cfg.get('model') or {}).get('decode_head') or {}
    head = head[-1] if isinstance(head, list | tuple) and head else head
    count = head.get('num_classes') if isinstance(head, Mapping) else None
    return [str(label) for label in range(count)] if isinstance(count, int) else []


def _add_broken(report: SplitReport, found: Sequence[MaskLabels], reader: MaskReader) -> None:
    broken = [mask for mask in found if mask.reason]
    for mask in broken:
        add_unreadable(report, 'masks', f'{mask.path}: {mask.reason}', len(broken), len(found))
    for mask in found:
        if mask.reason or mask.channels == 1:
            continue
        shape = f'{mask.channels} channels where one is expected' if mask.channels else 'a single row or column'
        by_opencv = '' if reader.is_plain else ", and read palettes with imdecode_backend='pillow'"
        report.add(
            'masks have no label per pixel',
            f'{mask.path} has {shape}',
            total=len(found),
            remedy=f'save the number of the class of each pixel in one channel{by_opencv}',
            fatal=True,
        )


def _add_deep(report: SplitReport, found: Sequence[MaskLabels], ignored: int) -> None:
    """Report values of 16 or more bits, of which MMSegmentation keeps the lowest 8."""
    for mask in found:
        if mask.has_fractions:
            report.add(
                'masks read hold fractions, not numbers of classes',
                mask.path,
                total=len(found),
                remedy='save whole numbers of 8 bits',
                fatal=True,
            )
            continue
        wrong = [value for value in mask.deep if value % VALUES != ignored]
        if wrong:
            report.add(
                'masks read have labels that 8 bits cannot hold, to which MMSegmentation cuts them',
                f'{mask.path}: ' + some([f'{value} becomes {value % VALUES}' for value in wrong], 3),
                total=len(found),
                remedy='relabel them with 0 to 255',
                fatal=True,
            )
        elif mask.deep:
            report.add(
                f'masks read have labels that 8 bits cannot hold, and are read as {ignored}, which is ignored',
                f'{mask.path}: {some(mask.deep, 3)}',
                total=len(found),
            )


def _add_beyond(report: SplitReport, read: Sequence[MaskLabels], count: int, ignored: int) -> None:
    beyond = {mask.path: [v for v in np.flatnonzero(mask.pixels) if v >= count and v != ignored] for mask in read}
    beyond = {path: labels for path, labels in beyond.items() if labels}
    if not beyond:
        return
    labels = sorted({int(label) for labels in beyond.values() for label in labels})
    present = {int(label) for mask in read for label in np.flatnonzero(mask.pixels)} - {ignored}
    for path in beyond:
        report.add(
            f'masks read have labels ({some(labels, 3)}) beyond those of the {count} classes, 0 to {count - 1}',
            path,
            total=len(read),
            remedy=_remedy_of_labels(present, count),
            fatal=True,
        )


def _remedy_of_labels(present: set[int], count: int) -> str:
    """Recognize labels that begin at 1, and levels of gray."""
    if max(present) == count:
        first = 'they begin at 1' if 0 not in present else 'where 0 is no class'
        return (
            f'{first}: set reduce_zero_label=True, by which 1 becomes 0 and 0 is ignored; else name all classes in '
            'metainfo and num_classes'
        )
    if len(present | {255}) <= count + 1 and max(present) >= 100:
        return 'they look like levels of gray: replace each by the number of its class'
    return 'relabel them, or name all classes in metainfo and num_classes'


def _add_absent(
    report: SplitReport, read: int, classes: Sequence[str], pixels: np.ndarray, ignored: int, shifted: bool
) -> None:
    """Report classes of which no mask has a pixel, with what may have become of them."""
    present = [label for label in range(len(classes)) if pixels[label]]
    reason = f'classes occur in none of the {read} masks of {report.source}'
    if pixels[ignored]:
        share = pixels[ignored] / pixels.sum()
        reason += f', and {share:.0%} of the pixels have the label {ignored}, which is ignored'
    remedy = ''
    if not present:
        remedy = f'relabel them with 0 to {len(classes) - 1}'
    elif shifted:
        remedy = 'if label 0 is a class, set reduce_zero_label=False' if len(classes) - 1 not in present else ''
    elif present == [0] and pixels[ignored]:
        remedy = f'if {ignored} means a class, replace it by the number of the class'
    elif len(classes) > 2 and present == list(range(1, len(classes))):
        remedy = 'if the labels begin at 1, set reduce_zero_label=True'
    for label, name in enumerate(classes):
        if not pixels[label]:
            report.add(reason, f'{name} ({label})', total=len(classes), remedy=remedy, fatal=not present)


def _add_palette_findings(
    report: SplitReport, read: Sequence[MaskLabels], classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> None:
    """Report palettes in which a class has the color of another, or a color stands for several classes."""
    known = {tuple(color): label for label, color in enumerate(palette)}
    numbers: dict[tuple[int, ...], int] = {}
    for mask in read:
        if len(set(mask.colors.values())) < len(mask.colors):  # gray or black throughout: it says nothing
            continue
        for label, color in mask.colors.items():
            other = known.get(color, label)
            if len(known) == len(classes) and label < len(classes) and other != label:
                report.add(
                    'masks read have a palette in which a class has the color that metainfo gives to another',
                    f'{mask.path}: {label}, {classes[label]}, has the color of {classes[other]}',
                    total=len(read),
                    remedy='look whether the indices of the palettes are the numbers of the classes',
                )
                break
        else:
            moved = [color for label, color in mask.colors.items() if numbers.setdefault(color, label) != label]
            if moved:
                report.add(
                    'masks read have palettes in another order than others, so that a color has several numbers',
                    f'{mask.path}: {moved[0]}',
                    total=len(read),
                    remedy='save all with the same palette',
                )
