"""Measure how fast images become vectors, against the plain loop over timm's network and transform."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import timm
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mae_toolkit.apis import FeatureExtractor, load_encoder
from mae_toolkit.apis.embedding import resize_to
from mae_toolkit.benchmarks.data import write_jpegs
from mae_toolkit.datasets import ImageDataset
from mae_toolkit.datasets.image_files import find_images


def benchmark_embed(
    arch: str,
    folder: str | Path,
    size: int = 224,
    batch_size: int = 32,
    workers: Sequence[int] = (0, 2),
    images: int = 256,
    rounds: int = 3,
    make_jpegs: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Time the vectors of a folder by our extractor and by plain loops, in turns, on the CPU.

    The plain loop is what people write: ``timm.create_model(arch, num_classes=0)``, timm's ``create_transform`` on
    pictures of Pillow, a ``DataLoader``, ``torch.inference_mode``. It gives the vectors of the last level by one
    pooling, ours those of all levels by all poolings. Weights, sizes and type (float32) are the same. Threads of both
    wait as :mod:`mae_toolkit` has it; ``GOMP_SPINCOUNT=300000`` in the environment lets them spin, as they do in a
    program with timm alone.

    Args:
        arch: Architecture in timm; its weights are random.
        folder: Folder of images; they are taken in turns until there are enough.
        size: Pixels per side of what the network sees.
        batch_size: Images per batch.
        workers: Numbers of processes that read images for the plain loop, each measured; ours choose it themselves.
        images: Images per pass.
        rounds: Timed passes of each, of which the medians are given; one more warms up.
        make_jpegs: Width and height of JPEGs that are made of the images first, and read instead of them.

    Returns:
        ``ours`` and ``plain`` (by its number of workers) in images per second, ``ratio`` of ours to the faster of the
        plain loops and ``ratios`` to each, ``network``, the seconds per image of timm's network alone, and the
        settings.

    Raises:
        UserError: If there are no images, or the architecture is unknown.
    """
    with tempfile.TemporaryDirectory() as scratch:
        paths = find_images([folder])
        if make_jpegs:
            made = Path(scratch) / 'images'
            made.mkdir()
            write_jpegs(ImageDataset(folder), made, make_jpegs, images)
            paths = find_images([made])
        paths = [paths[i % len(paths)] for i in range(images)]
        extractor, net, transform = make_both(arch, size, batch_size, Path(scratch))
        loops: dict[Any, Callable[[], Any]] = {'ours': lambda: extractor(paths, show_progress=False)}
        for count in workers:
            loops[count] = partial(run_plain, net, transform, paths, batch_size, count)
        batch = torch.randn(batch_size, len(extractor.transform.preparation.mean), size, size)  # type: ignore[attr-defined]
        loops['network'] = lambda: run_network(net, batch)
        times = _time_in_turns(loops, rounds)
    plain = {str(count): images / times[count] for count in workers}
    ours = images / times['ours']
    ratios = {count: ours / rate for count, rate in plain.items()}
    result = {'arch': arch, 'ours': ours, 'plain': plain, 'ratios': ratios, 'ratio': min(ratios.values())}
    result |= {'network': times['network'] / batch_size, 'images': images, 'size': size, 'batch_size': batch_size}
    return result | {'rounds': rounds, 'made': make_jpegs, 'threads': torch.get_num_threads()}


def make_both(
    arch: str, size: int, batch_size: int, scratch: Path
) -> tuple[FeatureExtractor, nn.Module, Callable[[Image.Image], Tensor]]:
    """Make our extractor, and timm's network with the same random weights and timm's transform to the same size.

    Args:
        arch: Architecture in timm.
        size: Pixels per side of what the network sees.
        batch_size: Images per batch.
        scratch: Folder for the weights.
    """
    torch.manual_seed(0)
    try:
        net = timm.create_model(arch, num_classes=0, img_size=size).eval()
    except TypeError:  # a network for images of any size
        net = timm.create_model(arch, num_classes=0).eval()
    torch.save(net.state_dict(), scratch / 'random.pth')
    encoder, transform = load_encoder(scratch / 'random.pth', arch)
    transform = resize_to(transform, size)
    extractor = FeatureExtractor(encoder, transform, batch_size=batch_size)
    return extractor, net, create_transform(**transform.preparation.to_timm(), is_training=False)


def run_plain(
    net: nn.Module, transform: Callable[[Any], Tensor], paths: Sequence[Path], batch: int, workers: int
) -> Tensor:
    """Make vectors (N, C) of files by the plain loop."""
    loader = DataLoader(_Pictures(paths, transform), batch, num_workers=workers)
    with torch.inference_mode():
        return torch.cat([net(imgs) for imgs in loader])


def run_network(net: nn.Module, imgs: Tensor) -> Tensor:
    """Run the network on images that are there already."""
    with torch.inference_mode():
        return net(imgs)


def report(results: Sequence[dict[str, Any]]) -> str:
    """Write the results of :func:`benchmark_embed` as a table."""
    first = results[0]
    made = 'JPEGs of {} x {} made of the images'.format(*first['made']) if first['made'] else 'the images as they are'
    counts = list(first['plain'])
    lines = [
        f'{first["images"]} files ({made}), batches of {first["batch_size"]} images of {first["size"]} pixels, '
        f'{first["threads"]} threads, medians of {first["rounds"]} rounds; images/s',
        f'{"":28}{"ours":>8}' + ''.join(f'{f"timm, {n} workers":>18}' for n in counts) + f'{"network alone":>16}',
    ]
    for one in results:
        plain = ''.join(f'{one["plain"][n]:10.1f} ({one["ratios"][n]:.2f}x)' for n in counts)
        lines.append(f'{one["arch"]:28}{one["ours"]:8.1f}{plain}{1 / one["network"]:16.1f}')
    return '\n'.join(lines)


def _time_in_turns(loops: dict[Any, Callable[[], Any]], rounds: int) -> dict[Any, float]:
    """Return the median seconds of each function."""
    times: dict[Any, list[float]] = {name: [] for name in loops}
    for number in tqdm(range(rounds + 1), desc='rounds', unit='round'):
        for name, run in loops.items():
            start = perf_counter()
            run()
            if number:
                times[name].append(perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


class _Pictures(Dataset):
    """Files, opened by Pillow and prepared by a transform."""

    def __init__(self, paths: Sequence[Path], transform: Callable[[Any], Tensor]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.open(self.paths[index]).convert('RGB'))
