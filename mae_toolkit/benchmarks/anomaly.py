"""Measure our PatchCore against that of anomalib: the same features of the same images, in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from tqdm import tqdm

from mae_toolkit.apis.anomaly_branches import load_reader
from mae_toolkit.apis.embedding import resize_to
from mae_toolkit.datasets.image_io import BrokenImageError
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.branch import Branch
from mae_toolkit.evaluation.anomaly.layout import LabeledImage
from mae_toolkit.evaluation.anomaly.readers import FeatureReader
from mae_toolkit.evaluation.anomaly.scoring import RawScores, compute_map, compute_scores
from mae_toolkit.export.anomalib import AnomalibBackbone, require_anomalib
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.printing import format_count
from mae_toolkit.randomness import seeded_by

SMOOTH = 4.0  # of the maps, which anomalib has for all sizes
NEIGHBORS = 9  # that re-weight the score of an image


class Competitor(Protocol):
    """A PatchCore that is measured."""

    def prepare(self, imgs: Tensor) -> Tensor:
        """Return images (B, C, H, W), which are normalized for the encoder, as it takes them."""

    def fit(self, batches: Sequence[Tensor]) -> None:
        """Read the features of normal images (B, C, H, W), and choose a memory of them."""

    def score(self, img: Tensor) -> tuple[float, np.ndarray]:
        """Score an image (1, C, H, W): its score, and its map (H, W)."""


class Ours:
    """PatchCore of the toolkit, with the weights of scores that anomalib has, too."""

    def __init__(self, encoder: Encoder, transform: EncoderTransform, coreset: float, seed: int) -> None:
        settings = {'coreset': coreset, 'reweight': True}
        self.reader = FeatureReader(encoder, local=3)
        self.branch = Branch('patchcore', self.reader, transform, settings, seed)

    def prepare(self, imgs: Tensor) -> Tensor:
        """Return the images as they are."""
        return imgs

    def fit(self, batches: Sequence[Tensor]) -> None:
        """Read the features, and choose the memory."""
        self.branch.renew()
        for imgs in batches:
            self.branch.method.add(self.branch.read(imgs, len(imgs)))
        self.branch.method.finish(show_progress=False)

    def score(self, img: Tensor) -> tuple[float, np.ndarray]:
        """Score an image."""
        maps, size = self.branch.read(img, 1), (img.shape[-2], img.shape[-1])
        grid = self.branch.method.score(maps)
        raw = RawScores(0, size, [(0, 0)], [grid], [self.branch.method.weigh(maps, grid)], size)
        return compute_scores([self.branch], raw)['max'], compute_map([self.branch], raw, SMOOTH)


class Anomalib:
    """PatchCore of anomalib on the levels that ours reads."""

    def __init__(self, encoder: Encoder, transform: EncoderTransform, coreset: float, seed: int) -> None:
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        backbone = AnomalibBackbone(encoder, transform.preparation)
        layers = [f'level{number}' for number in FeatureReader(encoder).levels]
        self.model = PatchcoreModel(layers, backbone, num_neighbors=NEIGHBORS)
        self.scale, self.shift = backbone.levels.scale, backbone.levels.shift
        self.coreset, self.seed = coreset, seed

    def prepare(self, imgs: Tensor) -> Tensor:
        """Normalize as for ImageNet what is normalized for the encoder."""
        return (imgs - self.shift) / self.scale

    def fit(self, batches: Sequence[Tensor]) -> None:
        """Read the features, and choose the memory."""
        self.model.train()
        self.model.memory_bank = torch.empty(0)
        with seeded_by(self.seed):  # the first patch is drawn from torch's generator, the projection from NumPy's
            for imgs in batches:
                self.model(imgs)
            self.model.subsample_embedding(self.coreset)
        self.model.eval()

    def score(self, img: Tensor) -> tuple[float, np.ndarray]:
        """Score an image."""
        found = self.model(img)
        return float(found.pred_score), found.anomaly_map[0, 0].numpy()


@torch.no_grad()
def benchmark_anomaly(
    source: str | Path,
    normal: Sequence[Path],
    tested: Sequence[LabeledImage],
    encoder: str | Mapping[str, Any] | None = None,
    size: int | tuple[int, int] | None = None,
    coreset: float = 0.1,
    batch: int = 16,
    runs: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit both on the same normal images and score the same test images, in turns.

    Images are read once, before anything is measured. Both compute the features of the same levels, choose a coreset
    with a seed of their own, and give each test image, alone, a score and a map. The encoder of both ends with the last
    level that is read.

    Args:
        source: The encoder, see :func:`~mae_toolkit.apis.load_encoder`.
        normal: Normal images to fit on.
        tested: Images whose labels are known.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        size: Pixels of the images, or height and width; as in the training if None.
        coreset: Share of the patches that is kept.
        batch: Images per batch of the fit.
        runs: Times that each is fitted and scores all images, of which the medians are given.
        seed: Seed of both.

    Returns:
        ``auroc`` of images, ``fit`` in seconds and ``score`` in milliseconds per image, each with ``ours``,
        ``anomalib`` and their ``difference`` or ``ratio`` (ours to anomalib's); ``encoder``, the milliseconds per image
        that each spends on the encoder, whose batch norms ours folds into its convolutions; the counts ``normal``,
        ``tested``, ``defective``, ``patches``, ``memory`` and ``channels``; and the settings.

    Raises:
        UserError: If anomalib is not installed, an image cannot be read, or there are only normal or only defective
            test images.
    """
    require_anomalib()
    truth = np.array([image.is_defective for image in tested])
    if truth.all() or not truth.any():
        raise UserError(f'All {format_count(len(truth), "test image")} are {"defective" if truth.all() else "normal"}.')
    reader, transform = load_reader(source, encoder)
    model = reader.encoder
    transform = resize_to(transform, size, whole=True)
    batches = [_read(normal[start : start + batch], transform) for start in range(0, len(normal), batch)]
    images = [_read([image.path], transform) for image in tested]
    ours = Ours(model, transform, coreset, seed)
    scores, times = _run_in_turns([ours, Anomalib(model, transform, coreset, seed)], batches, images, runs)
    encoding = _time_in_turns([ours.reader.network, model], images)
    memory = ours.branch.method.state()['bank']
    return {
        'auroc': _compare_aurocs(scores, truth),
        'fit': _compare_times(times['fit'], 1),
        'score': _compare_times(times['score'], 1000 / len(images)),
        'encoder': _compare_times(encoding, 1000),
        'normal': len(normal),
        'tested': len(tested),
        'defective': int(truth.sum()),
        'patches': len(normal) * ours.branch.reader(images[0])[0, 0].numel(),
        'memory': len(memory),
        'channels': memory.shape[1],
        'size': list(transform.preparation.size),
        'coreset': coreset,
        'batch': batch,
        'runs': runs,
        'seed': seed,
        'threads': torch.get_num_threads(),
    }


def report(result: Mapping[str, Any]) -> str:
    """Write the result of :func:`benchmark_anomaly` as text."""
    head = (
        '{normal} normal images, {tested} test images ({defective} defective) of {size[0]} x {size[1]} pixels; '
        '{patches} patches of {channels} channels, memory of {memory} (coreset {coreset:g}); {threads} threads, '
        'medians of {runs} runs'
    ).format(**result)
    lines = [head, f'{"":36}{"ours":>10}{"anomalib":>10}']
    auroc = result['auroc']
    lines.append(
        f'{"image AUROC":36}{auroc["ours"]:10.4f}{auroc["anomalib"]:10.4f}  difference {auroc["difference"]:+.4f}'
    )
    for key, name, digits in (
        ('fit', 'fit, s', 2),
        ('score', 'score, ms per image', 1),
        ('encoder', 'of which the encoder, ms per image', 1),
    ):
        one = result[key]
        lines.append(f'{name:36}{one["ours"]:10.{digits}f}{one["anomalib"]:10.{digits}f}  ratio {one["ratio"]:.2f}')
    return '\n'.join(lines)


def _read(paths: Sequence[Path], transform: EncoderTransform) -> Tensor:
    try:
        return torch.stack([transform(path) for path in paths])
    except BrokenImageError as error:
        raise UserError(str(error)) from None


def _run_in_turns(
    competitors: Sequence[Competitor], batches: Sequence[Tensor], images: Sequence[Tensor], runs: int
) -> tuple[list[np.ndarray], dict[str, list[list[float]]]]:
    """Return the scores (N,) of each competitor, and the seconds of each one's runs of ``fit`` and of ``score``."""
    prepared = [[[one.prepare(x) for x in part] for part in (batches, images)] for one in competitors]
    scores = [np.empty(0)] * len(competitors)
    times: dict[str, list[list[float]]] = {key: [[] for _ in competitors] for key in ('fit', 'score')}
    for run in tqdm(range(runs), desc='runs', unit='run', delay=1):
        # Whoever comes second may find warmer caches: each comes first in turn.
        for index in sorted(range(len(competitors)), reverse=bool(run % 2)):
            one, (of_fit, of_score) = competitors[index], prepared[index]
            times['fit'][index].append(_time(one.fit, of_fit)[0])
            one.score(of_score[0])  # warms up
            seconds, scores[index] = _time(_score_all, one, of_score)
            times['score'][index].append(seconds)
    return scores, times


def _time_in_turns(networks: Sequence[Callable[[Tensor], Any]], images: Sequence[Tensor]) -> list[list[float]]:
    """Return the seconds per image of each network."""
    for network in networks:
        network(images[0])  # warms up
    pairs = [[_time(network, img)[0] for network in networks] for img in images]
    return [list(one) for one in zip(*pairs, strict=True)]


def _score_all(competitor: Competitor, images: Sequence[Tensor]) -> np.ndarray:
    return np.array([competitor.score(img)[0] for img in images])


def _compare_aurocs(scores: Sequence[np.ndarray], truth: np.ndarray) -> dict[str, float]:
    ours, theirs = (float(roc_auc_score(truth, one)) for one in scores)
    return {'ours': ours, 'anomalib': theirs, 'difference': ours - theirs}


def _compare_times(times: Sequence[Sequence[float]], factor: float) -> dict[str, float]:
    ours, theirs = (factor * median(one) for one in times)
    return {'ours': ours, 'anomalib': theirs, 'ratio': ours / theirs}


def _time(function: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    start = perf_counter()
    result = function(*args)
    return perf_counter() - start, result
