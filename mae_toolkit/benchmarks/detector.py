"""Measure what a detector's training step takes beside its backbone alone."""

import statistics
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

OBJECTS = 8  # in each image


def benchmark_detector(
    cfg: Config, batch: int = 2, size: tuple[int, int] = (320, 480), runs: int = 5, device: str = 'cpu'
) -> dict[str, float]:
    """Time training steps of a detector, and forward and backward passes through its backbone alone.

    They are measured in turns, on images of noise with boxes and masks; reading data is not part of them.

    Args:
        cfg: Config of a detector of MMDetection; its ``init_cfg`` is not followed.
        batch: Images per step.
        size: Height and width of the images.
        runs: Timed runs of each, after one that does not count.
        device: Where it runs, as torch names it.

    Returns:
        Median seconds: ``step`` and ``backbone``, processor time as ``step_cpu`` and ``backbone_cpu``, which a busy
        machine lengthens less, and ``times``, the quotient of the latter, or on a GPU of the former.
    """
    from mmdet.registry import MODELS  # pretraining needs no MMDetection

    cfg.model.backbone.pop('init_cfg', None)
    model = MODELS.build(cfg.model).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5)
    data = model.data_preprocessor(make_noise(batch, size), training=True)

    def step() -> None:
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def backbone() -> None:
        optimizer.zero_grad()
        sum(level.mean() for level in model.backbone(data['inputs'])).backward()

    seconds: dict[str, list[tuple[float, float]]] = {'step': [], 'backbone': []}
    for _ in range(runs + 1):
        for name, work in (('step', step), ('backbone', backbone)):
            seconds[name].append(_time(work, device))
    found = {}
    for name, values in seconds.items():
        found[name], found[f'{name}_cpu'] = (statistics.median(column) for column in zip(*values[1:], strict=True))
    clock = '' if device.startswith('cuda') else '_cpu'
    return found | {'times': found[f'step{clock}'] / found[f'backbone{clock}']}


def make_noise(batch: int, size: tuple[int, int]) -> dict[str, Any]:
    """Make images of noise, with boxes and masks, as MMDetection's loader gives them.

    Args:
        batch: Number of images.
        size: Their height and width.
    """
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    generator = torch.Generator().manual_seed(0)
    height, width = size
    sides = torch.tensor([width, height]) / 4
    samples = []
    for _ in range(batch):
        corners = torch.rand(OBJECTS, 2, generator=generator) * sides * 3
        boxes = torch.cat([corners, corners + sides * (0.2 + 0.8 * torch.rand(OBJECTS, 2, generator=generator))], 1)
        masks = torch.zeros(OBJECTS, height, width, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.long().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        labels = torch.zeros(OBJECTS, dtype=torch.long)
        found = InstanceData(bboxes=boxes, labels=labels, masks=BitmapMasks(masks.numpy(), height, width))
        samples.append(DetDataSample(gt_instances=found, metainfo={'img_shape': size, 'ori_shape': size}))
    imgs = torch.randint(256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)
    return {'inputs': list(imgs), 'data_samples': samples}


def report(found: dict[str, float]) -> str:
    """Write the result of :func:`benchmark_detector` as a line."""
    parts = (('training step', 'step'), ('backbone alone, forward and backward', 'backbone'))
    text = [f'{what} {found[n] * 1e3:.0f} ms ({found[f"{n}_cpu"] * 1e3:.0f} ms of processors)' for what, n in parts]
    return f'{", ".join(text)}: {found["times"]:.2f} times'


def _time(work: Callable[[], None], device: str) -> tuple[float, float]:
    """Measure the seconds that pass, and the seconds of all processors."""
    wait = torch.cuda.synchronize if device.startswith('cuda') else lambda: None
    wait()
    begin, used = perf_counter(), process_time()
    work()
    wait()
    return perf_counter() - begin, process_time() - used
