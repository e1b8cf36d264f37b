"""Fine-tune a detector, a segmenter or a classifier on one's own labels: from files to a tested model."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.apis.finetuning_tasks import TASKS, Wishes
from mae_toolkit.apis.predict import predict_images
from mae_toolkit.apis.training import test, train
from mae_toolkit.checkpoints.run_folder import find_run
from mae_toolkit.config.load import load_config
from mae_toolkit.downstream import load_predictor
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.learning_curve import LearningCurve, describe_curve
from mae_toolkit.files import atomic_write
from mae_toolkit.planning.device import find_device
from mae_toolkit.planning.encoders import choose_encoder
from mae_toolkit.planning.merged_config import complete_config
from mae_toolkit.planning.training import Length
from mae_toolkit.visualization import read_scalars

CONFIG, LABELS, PICTURES = 'config.py', 'labels', 'pictures'
DEFAULTS = {'cpu': 'convnextv2_atto', 'cuda': 'convnextv2_tiny'}
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
    patience: int | None = None,
    seed: int = 0,
    resume: bool = False,
    options: Mapping[str, Any] | None = None,
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
        size: Pixels of the longer side of an image.
        steps: Steps of training.
        epochs: Passes over the images, instead of ``steps``.
        patience: Validations in a row without a better result after which training stops.
        seed: Seed of the split and of the training.
        resume: Go on with an interrupted run by its own config; the other arguments are not used.
        options: Values of the config by dotted key.

    Returns:
        The metrics on the test split.

    Raises:
        UserError: If labels, weights or arguments do not fit, in one sentence.
    """
    if task not in TASKS:
        raise UserError(f'The task {task!r} must be one of {", ".join(TASKS)}.')
    if steps is not None and epochs is not None:
        raise UserError('Give either steps or epochs, not both.')
    out = Path(out)
    if not resume:
        _check_new(out)
        length = Length(steps, epochs, patience)
        wishes = Wishes(Path(data), None if images is None else Path(images), size, length, seed)
        _write_config(task, wishes, out, None if weights is None else str(weights), encoder, options or {})
    elif not (out / CONFIG).is_file():
        raise UserError(f'There is no {out / CONFIG} to go on with: leave --resume out.')
    cfg = load_config(out / CONFIG)
    train(cfg, out, resume='auto' if resume else None)
    return finish(task, cfg, out)


def _check_new(out: Path) -> None:
    if (out / CONFIG).exists():
        raise UserError(
            f'{out} holds the config of an earlier run: go on with --resume, train it by tools/train.py {out / CONFIG} '
            '--work-dir FOLDER, or choose another --out.'
        )


def _write_config(
    task: str, wishes: Wishes, out: Path, weights: str | None, arch: str | None, options: Mapping[str, Any]
) -> None:
    """Read the labels, choose all numbers, write the config, and print both."""
    device = find_device()
    encoder = choose_encoder(arch, weights, DEFAULTS[device.type])
    plan = TASKS[task](wishes, encoder, device, out / LABELS)
    for line in plan.notes:
        print(line, file=sys.stderr)
    header = (
        f'Written by `mae-toolkit finetune {task}`: every setting that was chosen has its reason behind it. Train it\n'
        f'again, with other settings, by tools/train.py {out / CONFIG} --work-dir FOLDER --cfg-options size=640'
    )
    text = complete_config(plan.template, plan.knobs, header, plan.fit, options)
    for name, knob in plan.knobs.items():
        print(f'{name} = {knob.value!r}: {knob.reason}', file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    atomic_write(out / CONFIG, text)


def finish(task: str, cfg: Config, out: Path) -> dict[str, float]:
    """Test the best checkpoint, draw what it predicts, and say how the training went.

    Args:
        task: The task.
        cfg: Config of the run.
        out: Folder of the run.
    """
    checkpoint = find_run(out).checkpoint
    numbers = test(cfg, checkpoint, out)
    files = _list_test_images(cfg)
    step = max(1, len(files) // SHOWN)
    predict_images(load_predictor(cfg, checkpoint), files[::step][:SHOWN], out / PICTURES, force=True)
    name = cfg.default_hooks.checkpoint.save_best
    curve = LearningCurve(read_scalars(out).get(f'val/{name}', {}), cfg.train_cfg.max_iters)
    lines = describe_curve(curve, name) if curve.values else []
    lines += [f'checkpoint: {checkpoint}', f'test: {name} {numbers[name]:.4g}', f'pictures: {out / PICTURES}']
    print('\n'.join(lines), file=sys.stderr)
    return numbers


def _list_test_images(cfg: Config) -> list[Path]:
    from mmengine.registry import DATASETS, DefaultScope

    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    return [Path(dataset.get_data_info(i)['img_path']) for i in range(len(dataset))]
