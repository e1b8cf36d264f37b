"""Fine-tune a detector, a segmenter or a classifier on one's own labels: from files to a tested model."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.apis.dataset_images import build_dataset, find_image
from mae_toolkit.apis.finetuning_arguments import check_arguments, check_numbers, list_arguments, load_resumed
from mae_toolkit.apis.finetuning_minutes import fit_plan
from mae_toolkit.apis.finetuning_tasks import TASKS, Plan, Wishes
from mae_toolkit.apis.image_notes import compare_with_weights
from mae_toolkit.apis.predict import predict_images
from mae_toolkit.apis.run_checks import ARGUMENTS, CONFIG, MARK, check_new_run
from mae_toolkit.apis.training import test, train
from mae_toolkit.checkpoints.run_folder import find_run
from mae_toolkit.config.knobs import Knob
from mae_toolkit.config.load import load_config
from mae_toolkit.downstream import load_predictor
from mae_toolkit.evaluation import ClassRecall
from mae_toolkit.evaluation.learning_curve import LearningCurve, describe_curve
from mae_toolkit.planning.config_text import ConfigFile, split_options
from mae_toolkit.planning.device import find_device
from mae_toolkit.planning.encoders import choose_encoder
from mae_toolkit.planning.finetuning import Length
from mae_toolkit.planning.loaded_images import fit_to_images
from mae_toolkit.planning.minutes import TimeLimit, describe_time
from mae_toolkit.planning.table import describe_knobs, format_table
from mae_toolkit.printing import format_count, printable, some
from mae_toolkit.spread import spread_indices
from mae_toolkit.visualization import read_scalars

LABELS, PICTURES = 'labels', 'pictures'
DEFAULTS = {'cpu': 'convnextv2_atto', 'cuda': 'convnextv2_tiny'}
PRECISION = '_precision'  # end of the names of MMDetection's metrics of a class
RECALL = f'{ClassRecall.default_prefix}/'  # begin of those of classifiers and segmenters
SHOWN = 12  # images of the test whose predictions are drawn


@contextmanager
def _without_wrong_warning() -> Iterator[None]:
    """Suppress MMSegmentation's warning that ignored pixels count: with class weights, they never do."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Default ``avg_non_ignore`` is False')
        yield


@_without_wrong_warning()
def finetune(
    task: str,
    data: str | Path,
    out: str | Path,
    *,
    images: str | Path | None = None,
    weights: str | Path | None = None,
    encoder: str | None = None,
    size: int | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    patience: int | None = None,
    ignore_index: int | None = None,
    seed: int | None = None,
    resume: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
    began: float | None = None,
) -> dict[str, float]:
    """Train a detector, a segmenter or a classifier on one's own labels, and test it.

    Example::

        from mae_toolkit import finetune

        numbers = finetune('detect', 'photos/annotations.json', 'runs/detector', weights='runs/photos')

    Everything goes into one folder: the labels as they are used (``labels/``), ``config.py``, which
    ``tools/train.py`` takes, too, checkpoints, the curves, and pictures of what is found on test images.

    Args:
        task: ``'detect'``, ``'segment'`` or ``'classify'``.
        data: The labels: COCO JSON, YOLO or Pascal VOC to detect; masks to segment; class folders or a CSV to classify.
        out: Folder for everything that is written.
        images: Folder of the images, if they do not lie near the labels.
        weights: What the encoder begins with: the folder of a run, or ``[FORMAT:]FILE[#PART]``; None for random ones.
        encoder: Architecture of timm; that of the run by default.
        size: Pixels of the longer side of an image; of a classifier's crops.
        steps: Steps of training.
        epochs: Passes over the images, instead of ``steps``.
        minutes: Wall time of the whole command, from reading the labels to the pictures, instead of ``steps``. Steps
            are timed first; if few fit, crops, images or batches are made smaller. Training and validation get 60% of
            the minutes at least, so that with very few minutes the command takes longer.
        patience: Validations in a row without a better result after which training stops.
        ignore_index: Value of masks whose pixels do not count; 255 by default.
        seed: Seed of the split and of the training; 0 by default.
        resume: Go on with an interrupted run by its own config, of which ``cfg_options`` are replaced; other arguments
            than it began with are refused.
        cfg_options: Values of the config by dotted key.
        began: Time of ``time.perf_counter`` from which the minutes count; that of the call if None.

    Returns:
        The metrics on the test split.

    Raises:
        UserError: If labels, weights or arguments do not fit, in one sentence.
    """
    began = time.perf_counter() if began is None else began
    check_arguments(task, data, (steps, epochs, minutes), cfg_options)
    limit = None if minutes is None else TimeLimit(minutes, began)
    weights = None if weights is None else str(weights)
    folder = None if images is None else Path(images)
    wishes = Wishes(Path(data), folder, size, Length(steps, epochs, minutes, patience), seed or 0, ignore_index)
    if resume:
        out = Path(out)
        given = list_arguments(wishes, weights, encoder) | dict(size=size, patience=patience, seed=seed)
        cfg = load_resumed(task, out / CONFIG, given, minutes, cfg_options)
    else:
        out = check_new_run(out, *([images or data] if task != 'detect' else []))
        _write_config(task, wishes, out, weights, encoder, cfg_options or {}, limit)
        cfg = load_config(out / CONFIG)
    train(cfg, out, resume='auto' if resume else None)
    numbers = finish(cfg, out)
    print(describe_time(began, limit), flush=True)
    return numbers


def _write_config(
    task: str,
    wishes: Wishes,
    out: Path,
    weights: str | None,
    arch: str | None,
    options: Mapping[str, Any],
    limit: TimeLimit | None,
) -> None:
    """Read the labels, choose all numbers, write the config, and print what was found and chosen."""
    check_numbers(wishes)
    device = find_device()
    encoder = fit_to_images(choose_encoder(arch, weights, DEFAULTS[device.type]), reads_bytes=task != 'classify')
    plan = TASKS[task](wishes, encoder, device, out / LABELS)
    wanted, options = split_options(plan.template, options)
    noted = {name: value for name, value in list_arguments(wishes, weights, encoder.arch).items() if value is not None}
    plan = replace(plan, knobs=plan.knobs | wanted | {ARGUMENTS: Knob(noted, 'of the command; --resume compares them')})
    print('\n'.join(plan.notes) + '\n', flush=True)
    header = (
        f'{MARK} finetune {task}: every setting that was chosen has its reason behind it. Change what\n'
        f'you like, and train by it: python tools/train.py {printable(out / CONFIG)} --work-dir ANOTHER_FOLDER'
    )
    file = ConfigFile(out / CONFIG, header, options)

    def write(plan: Plan) -> Path:
        return file.write(plan.template, plan.knobs, plan.fit)

    if limit is not None:
        sized = {'size': plan.knobs['size']} if wishes.size else {}
        plan = fit_plan(plan, write, limit, sized | wanted)
    write(plan)
    shown = {name: knob for name, knob in plan.knobs.items() if name != ARGUMENTS}
    print(f'What is trained, and why ({out / CONFIG}):\n')
    print(format_table(describe_knobs({'encoder': Knob(encoder.arch, encoder.reason)} | shown)))
    note = None if encoder.weights is None else compare_with_weights(load_config(out / CONFIG))
    print('' if note is None else f'\nNote: {note}\n', flush=True)


def finish(cfg: Config, out: Path) -> dict[str, float]:
    """Test the best checkpoint, draw what it predicts, and say how the training went.

    Args:
        cfg: Config of the run.
        out: Folder of the run.

    Returns:
        The metrics on the test split.
    """
    checkpoint = find_run(out).checkpoint
    numbers = test(cfg, checkpoint, out)
    files = _list_test_images(cfg)
    shown = [files[place] for place in spread_indices(len(files), SHOWN)]
    predict_images(load_predictor(cfg, checkpoint), shown, out / PICTURES, force=True)
    name = cfg.default_hooks.checkpoint.save_best
    values = read_scalars(out).get(f'val/{name}', {})
    lines = describe_curve(LearningCurve(values), name) if values else []
    lines += _describe_lost(numbers)
    split = Path(str(cfg.test_dataloader.dataset.ann_file)).stem
    lines += [
        f'On {format_count(len(files), "image")} ({split}), {checkpoint.name} has {name} {numbers[name]:.4g}.',
        f'curve: {out / "metric.png"}',
        f'pictures of what it predicts: {out / PICTURES}',
        f'on other images: python tools/predict.py {out} IMAGES --out FOLDER',
    ]
    print('\n' + '\n'.join(lines), flush=True)
    return numbers


def _describe_lost(numbers: Mapping[str, float]) -> list[str]:
    """Say which classes are not found at all; their names are in those of the metrics."""
    found = {key.removeprefix(RECALL): value for key, value in numbers.items() if key.startswith(RECALL)}
    found |= {key.partition('/')[2].removesuffix(PRECISION): v for key, v in numbers.items() if key.endswith(PRECISION)}
    lost = [repr(printable(name)) for name, value in found.items() if value == 0]
    if not lost:
        return []
    verb = 'is' if len(lost) == 1 else 'are'
    return [
        f'{some(lost)} {verb} never found on the test images: train longer (--minutes or --steps), begin with '
        'pretrained weights (--from), label more examples, or, if they are small, give a larger --size.'
    ]


def _list_test_images(cfg: Config) -> list[Path]:
    """List the images of the test in the order of their dataset."""
    dataset = build_dataset(cfg, cfg.test_dataloader.dataset)
    return [find_image(dataset, i) for i in range(len(dataset))]
