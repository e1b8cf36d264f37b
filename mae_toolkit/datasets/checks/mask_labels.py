"""Check of the labels in masks: beyond the classes, cut to 8 bits or in another order, and classes without a pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from mae_toolkit.datasets.checks.mask_reader import NUM_LABELS, MaskLabels, MaskReader, read_mask
from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.datasets.checks.unreadable import add_unreadable
from mae_toolkit.datasets.image_headers import THREADS
from mae_toolkit.printing import some
from mae_toolkit.spread import spread_indices

SHOW_PROGRESS = 200  # masks from which a progress bar is shown


def add_label_findings(
    report: SplitReport, dataset: Any, infos: Sequence[dict], reader: MaskReader, count: int, cfg: Mapping
) -> None:
    """Read some masks, evenly spread, and report labels of no class, and classes without a pixel.

    Args:
        report: Receives the findings and the pixels of each class.
        dataset: The dataset, of MMSegmentation.
        infos: Annotations of the images whose masks can be read.
        reader: The step that loads masks.
        count: Number of masks to read.
        cfg: Config of the run.
    """
    selected = [infos[place] for place in spread_indices(len(infos), count)]
    with ThreadPoolExecutor(THREADS) as pool:
        results = pool.map(lambda info: read_mask(info, reader), selected)
        found = list(tqdm(results, 'reading masks', count, leave=False, delay=1, disable=count < SHOW_PROGRESS))
    _add_unreadable_findings(report, found, reader)
    ignored = get_ignore_index(cfg)
    _add_depth_findings(report, found, ignored)
    read = [mask for mask in found if not mask.reason and mask.channels == 1 and not mask.has_fractions]
    classes = _classes(dataset, cfg)
    if not read or not classes:
        return
    if not dataset.label_map and not dataset.reduce_zero_label:
        _add_palette_findings(report, read, classes, dataset.metainfo.get('palette') or ())
    pixels = np.sum([mask.pixels for mask in read], axis=0)
    report.classes = {name: int(pixels[label]) for label, name in enumerate(classes)}
    _add_range_findings(report, read, len(classes), ignored)
    blank = [mask.path for mask in read if mask.pixels.sum() == mask.pixels[ignored]]
    for path in blank if len(blank) < len(read) else ():
        report.add(f'masks contain nothing but the ignored label {ignored}', path, total=len(read))
    if len(read) == report.annotations and not report.errors:
        _add_absent_classes(report, len(read), classes, pixels, ignored, dataset.reduce_zero_label)


def get_ignore_index(cfg: Mapping) -> int:
    """Return the label that the heads of a segmenter's config ignore; 255 by default."""
    label = _last_decode_head(cfg).get('ignore_index', 255)
    return label if isinstance(label, int) and 0 <= label < NUM_LABELS else 255


def _last_decode_head(cfg: Mapping) -> Mapping:
    head = (cfg.get('model') or {}).get('decode_head') or {}
    head = head[-1] if isinstance(head, list | tuple) and head else head
    return head if isinstance(head, Mapping) else {}


def _classes(dataset: Any, cfg: Mapping) -> list[str]:
    """Return the names of the classes, or their indices if only the number of classes is known."""
    classes = dataset.metainfo.get('classes')
    if classes:
        return list(classes)
    count = _last_decode_head(cfg).get('num_classes')
    return [str(label) for label in range(count)] if isinstance(count, int) else []


def _add_unreadable_findings(report: SplitReport, found: Sequence[MaskLabels], reader: MaskReader) -> None:
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
            remedy=f'save the class index of each pixel in one channel{by_opencv}',
            fatal=True,
        )


def _add_depth_findings(report: SplitReport, found: Sequence[MaskLabels], ignored: int) -> None:
    """Report values that need more than 8 bits, of which MMSegmentation keeps the lowest 8."""
    for mask in found:
        if mask.has_fractions:
            report.add(
                'masks read contain fractions, not class indices',
                mask.path,
                total=len(found),
                remedy='save whole numbers of 8 bits',
                fatal=True,
            )
            continue
        wrong = [value for value in mask.deep if value % NUM_LABELS != ignored]
        if wrong:
            report.add(
                'masks read have labels that 8 bits cannot store, to which MMSegmentation cuts them',
                f'{mask.path}: ' + some([f'{value} becomes {value % NUM_LABELS}' for value in wrong], 3),
                total=len(found),
                remedy='relabel them with 0 to 255',
                fatal=True,
            )
        elif mask.deep:
            report.add(
                f'masks read have labels that 8 bits cannot store, and are read as {ignored}, which is ignored',
                f'{mask.path}: {some(mask.deep, 3)}',
                total=len(found),
            )


def _add_range_findings(report: SplitReport, read: Sequence[MaskLabels], count: int, ignored: int) -> None:
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
            remedy=_remedy_for_labels(present, count),
            fatal=True,
        )


def _remedy_for_labels(present: set[int], count: int) -> str:
    """Return a remedy for labels beyond the classes; labels that begin at 1 and gray levels are recognized."""
    if max(present) == count:
        first = 'they begin at 1' if 0 not in present else 'where 0 is no class'
        return (
            f'{first}: set reduce_zero_label=True, by which 1 becomes 0 and 0 is ignored; else name all classes in '
            'metainfo and num_classes'
        )
    if len(present | {255}) <= count + 1 and max(present) >= 100:
        return 'they look like gray levels: replace each by the index of its class'
    return 'relabel them, or name all classes in metainfo and num_classes'


def _add_absent_classes(
    report: SplitReport, read: int, classes: Sequence[str], pixels: np.ndarray, ignored: int, is_shifted: bool
) -> None:
    """Report classes of which no mask has a pixel, with the probable cause."""
    present = [label for label in range(len(classes)) if pixels[label]]
    reason = f'classes occur in none of the {read} masks of {report.source}'
    if pixels[ignored]:
        fraction = pixels[ignored] / pixels.sum()
        reason += f', and {fraction:.0%} of the pixels have the label {ignored}, which is ignored'
    remedy = ''
    if not present:
        remedy = f'relabel them with 0 to {len(classes) - 1}'
    elif is_shifted:
        remedy = 'if label 0 is a class, set reduce_zero_label=False' if len(classes) - 1 not in present else ''
    elif present == [0] and pixels[ignored]:
        remedy = f'if {ignored} means a class, replace it by the index of the class'
    elif len(classes) > 2 and present == list(range(1, len(classes))):
        remedy = 'if the labels begin at 1, set reduce_zero_label=True'
    for label, name in enumerate(classes):
        if not pixels[label]:
            report.add(reason, f'{name} ({label})', total=len(classes), remedy=remedy, fatal=not present)


def _add_palette_findings(
    report: SplitReport, read: Sequence[MaskLabels], classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> None:
    """Report palettes in which a class has the color of another, or a color belongs to several classes."""
    known = {tuple(color): label for label, color in enumerate(palette)}
    numbers: dict[tuple[int, ...], int] = {}
    for mask in read:
        if len(set(mask.colors.values())) < len(mask.colors):  # gray or black throughout: it tells nothing
            continue
        for label, color in mask.colors.items():
            other = known.get(color, label)
            if len(known) == len(classes) and label < len(classes) and other != label:
                report.add(
                    'masks read have a palette in which a class has the color that metainfo gives to another',
                    f'{mask.path}: {label}, {classes[label]}, has the color of {classes[other]}',
                    total=len(read),
                    remedy='check whether the indices of the palettes are those of the classes',
                )
                break
        else:
            moved = [color for label, color in mask.colors.items() if numbers.setdefault(color, label) != label]
            if moved:
                report.add(
                    'masks read have palettes in another order than others, so that a color has several indices',
                    f'{mask.path}: {moved[0]}',
                    total=len(read),
                    remedy='save all with the same palette',
                )
