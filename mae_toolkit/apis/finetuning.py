"""Fine-tune a detector, a segmenter or a classifier on one's own labels: from files to a tested model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mae_toolkit.apis.finetuning_tasks import TASKS, Plan, Wishes
from mae_toolkit.apis.image_notes import compare_with_weights
from mae_toolkit.apis.predict import predict_images
from mae_toolkit.apis.run_checks import CONFIG, MARK, check_new_run, check_resumed
from mae_toolkit.apis.training import test, train
from mae_toolkit.checkpoints.run_folder import find_run
from mae_toolkit.config.knobs import Knob
from mae_toolkit.config.load import load_config
from mae_toolkit.downstream import load_predictor
from mae_toolkit.engine.minutes import FILE as LENGTH_FILE
from mae_toolkit.engine.minutes import fit_to_minutes
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.learning_curve import LearningCurve, describe_curve
from mae_toolkit.files import atomic_write
from mae_toolkit.planning.config_text import split_options, write_config
from mae_toolkit.planning.device import find_device
from mae_toolkit.planning.encoders import choose_encoder
from mae_toolkit.planning.finetuning import UNIT, Length, fit_length
from mae_toolkit.planning.images import MOST_SIZE
from mae_toolkit.planning.table import describe_knobs, format_table
from mae_toolkit.printing import printable, some
from mae_toolkit.registry import SCOPE
from mae_toolkit.visualization import read_scalars

LABELS, PICTURES = 'labels', 'pictures'
DEFAULTS = {'cpu': 'convnextv2_atto', 'cuda': 'convnextv2_tiny'}
PRECISION = '_precision'  # end of the names of MMDetection's metrics of a class
SHOWN = 12  # images of the test whose predictions are drawn


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
    seed: int = 0,
    resume: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
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
        minutes: Wall time of the training, instead of ``steps``.
        patience: Validations in a row without a better result after which training stops.
        ignore_index: Value of masks whose pixels do not count; 255 by default.
        seed: Seed of the split and of the training.
        resume: Go on with an interrupted run by its own config, of which ``cfg_options`` are replaced.
        cfg_options: Values of the config by dotted key.

    Returns:
        The metrics on the test split.

    Raises:
        UserError: If labels, weights or arguments do not fit, in one sentence.
    """
    if task not in TASKS:
        raise UserError(f'The task {task!r} must be one of {", ".join(TASKS)}.')
    if sum(length is not None for length in (steps, epochs, minutes)) > 1:
        raise UserError('Give one of steps, epochs and minutes.')
    if not str(data):
        raise UserError('The name of the labels is empty: give a file or folder.')
    if not resume:
        out = check_new_run(out, *([images or data] if task != 'detect' else []))
        length = Length(steps, epochs, minutes, patience)
        folder = None if images is None else Path(images)
        wishes = Wishes(Path(data), folder, size, length, seed, ignore_index)
        _write_config(task, wishes, out, None if weights is None else str(weights), encoder, cfg_options or {})
        cfg = load_config(out / CONFIG)
    else:
        out = Path(out)
        if not (out / CONFIG).is_file():
            raise UserError(f'There is no {out / CONFIG} to go on with: leave --resume out.')
        _check_task(task, out / CONFIG)
        check_resumed(load_config(out / CONFIG), out / CONFIG, dict(size=size, steps=steps))
        cfg = load_config(out / CONFIG, cfg_options)
    train(cfg, out, resume='auto' if resume else None)
    return finish(cfg, out)


def _check_numbers(wishes: Wishes) -> None:
    """Refuse sizes and values of masks that cannot be meant."""
    if wishes.size is not None and not UNIT <= wishes.size <= MOST_SIZE:
        raise UserError(f'--size {wishes.size}: an image has {UNIT} to {MOST_SIZE:,} pixels on its longer side.')
    if wishes.ignore_index is not None and not 0 <= wishes.ignore_index < 2**16:
        raise UserError(f'--ignore-index {wishes.ignore_index}: a mask has values from 0 to 255, or to 65,535.')


def _check_task(task: str, config: Path) -> None:
    """Refuse to go on with a run of another task, which the first line of its config names."""
    began = re.match(rf'# {MARK} finetune (\w+)', config.read_text(errors='replace'))
    if began and began[1] != task:
        raise UserError(
            f'{config} is of a run of {began[1]!r}, and {task!r} was given: go on with finetune {began[1]}.'
        )


def _write_config(
    task: str, wishes: Wishes, out: Path, weights: str | None, arch: str | None, options: Mapping[str, Any]
) -> None:
    """Read the labels, choose all numbers, write the config, and print what was found and chosen."""
    _check_numbers(wishes)
    device = find_device()
    encoder = choose_encoder(arch, weights, DEFAULTS[device.type])
    plan = TASKS[task](wishes, encoder, device, out / LABELS)
    wanted, options = split_options(plan.template, options)
    plan = replace(plan, knobs=plan.knobs | wanted)
    print('\n'.join(plan.notes) + '\n', flush=True)
    header = (
        f'{MARK} finetune {task}: every setting that was chosen has its reason behind it. Change what\n'
        f'you like, and train by it: python tools/train.py {printable(out / CONFIG)} --work-dir ANOTHER_FOLDER'
    )
    atomic_write(out / CONFIG, write_config(plan.template, plan.knobs, header, options, plan.fit))
    if wishes.length.minutes is not None:
        plan = _fit_length(plan, out, wishes.length.minutes)
        atomic_write(out / CONFIG, write_config(plan.template, plan.knobs, header, options, plan.fit))
    knobs = {'encoder': Knob(encoder.arch, encoder.reason)} | plan.knobs
    print(f'What is trained, and why ({out / CONFIG}):\n')
    print(format_table(describe_knobs(knobs)))
    note = None if encoder.weights is None else compare_with_weights(load_config(out / CONFIG))
    print('' if note is None else f'\nNote: {note}\n', flush=True)


def _fit_length(plan: Plan, out: Path, minutes: float) -> Plan:
    """Time the first steps, and return the plan with as many steps or epochs, and validations, as fit."""
    timed = fit_to_minutes(load_config(out / CONFIG), out, minutes)
    (out / LENGTH_FILE).unlink()  # the config itself has the length
    return replace(plan, knobs=plan.knobs | fit_length(timed, 'steps' in plan.knobs))


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
    shown = files[:: max(1, len(files) // SHOWN)][:SHOWN]
    predict_images(load_predictor(cfg, checkpoint), shown, out / PICTURES, force=True)
    name = cfg.default_hooks.checkpoint.save_best
    values = read_scalars(out).get(f'val/{name}', {})
    lines = describe_curve(LearningCurve(values), name) if values else []
    lines += _describe_lost(numbers)
    split = Path(str(cfg.test_dataloader.dataset.ann_file)).stem
    lines += [
        f'On {len(files)} images ({split}), {checkpoint.name} has {name} {numbers[name]:.4g}.',
        f'curve: {out / "metric.png"}',
        f'pictures of what it predicts: {out / PICTURES}',
        f'on other images: python tools/predict.py {out} IMAGES --out FOLDER',
    ]
    print('\n' + '\n'.join(lines), flush=True)
    return numbers


def _describe_lost(numbers: Mapping[str, float]) -> list[str]:
    """Say which classes of a detector are not found at all; their names are in those of the metrics."""
    found = {key.partition('/')[2].removesuffix(PRECISION): value for key, value in numbers.items() if PRECISION in key}
    lost = [name for name, value in found.items() if value == 0]
    advice = 'label more of them, or, if they are small, give a larger --size'
    return (
        [f'Not found at all on the test images: {some([printable(name) for name in lost])}; {advice}.'] if lost else []
    )


def _list_test_images(cfg: Config) -> list[Path]:
    """List the images of the test in the order of their dataset."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', SCOPE)):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    if hasattr(dataset, 'names'):
        return [dataset.root / dataset.names[i] for i in range(len(dataset.names))]
    return [Path(dataset.get_data_info(i)['img_path']) for i in range(len(dataset))]
