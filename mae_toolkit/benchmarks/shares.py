"""Measure a training step of encoders by the share of the image that is visible, beside dense networks."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from tqdm import tqdm

from mae_toolkit.benchmarks.masked_dense import has_masked_dense, masked_dense
from mae_toolkit.benchmarks.model_parts import BenchmarkedModel, with_gradients
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder
from mae_toolkit.models.mask_ops import hide
from mae_toolkit.registry import build, list_arguments

SHARES = (1.0, 0.75, 0.5, 0.4, 0.25, 0.1)
DENSE = "timm's dense network"
MASK_TOKENS = 'with mask tokens'
MASKED_CONVOLUTIONS = 'masked dense convolutions'
# Times of whole trainings as papers state them in their abstracts, by the type of the encoder: the visible share, and
# the time as a fraction of that with all tokens.
PUBLISHED: Mapping[str, Sequence[Mapping[str, Any]]] = {
    'ViT': (
        {'name': 'MAE paper', 'claim': '3x or more', 'share': 0.25, 'fraction': 1 / 3, 'source': 'arXiv:2111.06377'},
    ),
    'Swin': (
        {
            'name': 'GreenMIM paper',
            'claim': 'about 2.7x',
            'share': 0.25,
            'fraction': 1 / 2.7,
            'source': 'arXiv:2205.13515',
        },
    ),
}


class Turn(NamedTuple):
    """Something that is timed in each round.

    Attributes:
        share: Visible fraction of the cells, between 0 and 1.
        name: What computes it; None for the encoder itself.
        run: A function that does a training step once.
    """

    share: float
    name: str | None
    run: Callable[[], None]


def benchmark_shares(
    cfgs: Sequence[Config],
    shares: Sequence[float] = SHARES,
    batch: int = 8,
    size: int | Sequence[int] | None = None,
    device: str = 'cpu',
    runs: int = 3,
) -> list[dict[str, Any]]:
    """Time a training step (forward and backward) of encoders at several visible shares, in float32.

    Beside each encoder, timm's dense network runs on the whole images and, where the network can do it, what other
    code computes: all positions with a mask token at the hidden ones (SimMIM, arXiv:2111.09886), or convolutions over
    whole maps that are masked after each (SparK, arXiv:2301.03580). Both at the visible share of the config. All take
    turns in every round, so that a slow moment of the machine strikes all of them.

    Args:
        cfgs: Configs of pretraining.
        shares: Visible fractions of the cells, above 0; 1 is the whole image without a mask.
        batch: Images per step.
        size: Pixels of the images, of their sides or of height and width; None for the ``img_size`` of each encoder, or
            224.
        device: Where it runs, as torch names it.
        runs: Rounds, of which the medians are given; one more before them warms up.

    Returns:
        For each config ``dense_ms``; ``steps``, with the ``share`` that is visible (of a whole number of cells), the
        ``ms``, and the ``fraction`` of the dense network's time; ``references``, the same of the other ways to compute,
        by ``name``; ``published``, see :data:`PUBLISHED`; and the settings.

    Raises:
        UserError: If there is no such device, a share is not above 0 and at most 1, one leaves no cell visible or
            hidden, or there is no dense network beside an encoder.
    """
    place = torch.device(device)
    if place.type == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: this machine has no GPU that torch can use.')
    for share in shares:
        if not 0 < share <= 1:
            raise UserError(f'share {share:g}: the visible fraction of the cells is above 0 and at most 1.')
    models = [BenchmarkedModel(cfg, batch, size, place, ('encoder', 'dense')) for cfg in cfgs]
    turns = [list_turns(cfg, model, shares) for cfg, model in zip(cfgs, models, strict=True)]
    times = _measure([turn.run for of_model in turns for turn in of_model], place, runs)
    settings = {
        'batch': batch,
        'device': torch.cuda.get_device_name(place) if place.type == 'cuda' else 'cpu',
        'threads': torch.get_num_threads(),
        'runs': runs,
        'torch': torch.__version__,
    }
    results = []
    for cfg, model, of_model in zip(cfgs, models, turns, strict=True):
        ms, times = times[: len(of_model)], times[len(of_model) :]
        found = _collect(of_model, ms) | {'published': list(PUBLISHED.get(cfg.model.encoder.type, ()))}
        results.append(found | {'size': list(model.size)} | settings)
    return results


def list_turns(cfg: Config, model: BenchmarkedModel, shares: Sequence[float]) -> list[Turn]:
    """List what is timed for one config: the dense network first, then its encoder at each share, then other ways.

    Args:
        cfg: The config.
        model: What was built from it.
        shares: Visible fractions of the cells.

    Raises:
        UserError: If a share leaves no cell visible or hidden, or there is no dense network.
    """
    whole, imgs, dense = model.model, model.imgs, model.dense
    if dense is None:
        raise UserError(
            f'{type(whole.encoder).__name__} with out_indices={tuple(whole.encoder.out_indices)} has no dense network '
            'of timm beside it: leave out level -1, its embedded input.'
        )
    turns = [Turn(1.0, DENSE, with_gradients(lambda: dense(imgs), dense, nullcontext))]
    turns += [_make_encoder_turn(model, whole.encoder, share) for share in sorted(set(shares), reverse=True)]
    if 'mask_token' in list_arguments(type(whole.encoder)) and not whole.encoder.fills_hidden:
        filling = build(Encoder, {**cfg.model.encoder, 'mask_token': True}).to(imgs.device).train()
        turns.append(_make_encoder_turn(model, filling, model.visible, MASK_TOKENS))
    if has_masked_dense(whole.encoder):

        def encode() -> Any:
            mask = whole.draw_cells(imgs).mask
            return masked_dense(whole.encoder, hide(imgs, mask), mask)

        turns.append(Turn(model.visible, MASKED_CONVOLUTIONS, with_gradients(encode, whole.encoder, nullcontext)))
    return turns


def _make_encoder_turn(model: BenchmarkedModel, encoder: Encoder, share: float, name: str | None = None) -> Turn:
    """Make the step of an encoder that sees a share of the cells, which are drawn anew in each step."""
    if share == 1:
        return Turn(1.0, name, with_gradients(lambda: encoder.encode(model.imgs).maps, encoder, nullcontext))
    masking = copy(model.model.masking)
    masking.ratio, masking.predict_ratio = 1 - share, None
    cells = masking.draw_cells(model.imgs)  # refuses a share that leaves nothing

    def encode() -> Any:
        return encoder.encode(model.imgs, masking.draw_cells(model.imgs)).maps

    return Turn(cells.num_visible / cells.mask[0].numel(), name, with_gradients(encode, encoder, nullcontext))


def _measure(parts: Sequence[Callable[[], None]], device: torch.device, runs: int) -> list[float]:
    """Return the median milliseconds of each part; they take turns in every round."""
    times: list[list[float]] = [[] for _ in parts]
    with tqdm(total=(runs + 1) * len(parts), desc='steps', unit='step') as bar:
        for i in range(runs + 1):
            for run, seconds in zip(parts, times, strict=True):
                start = perf_counter()
                run()
                if device.type == 'cuda':
                    torch.cuda.synchronize()
                if i:
                    seconds.append(perf_counter() - start)
                bar.update()
    return [median(seconds) * 1e3 for seconds in times]


def _collect(turns: Sequence[Turn], ms: Sequence[float]) -> dict[str, Any]:
    """Divide the times of one config by that of the dense network, which is the first."""
    rows = [
        {'name': turn.name, 'share': turn.share, 'ms': time, 'fraction': time / ms[0]}
        for turn, time in zip(turns[1:], ms[1:], strict=True)
    ]
    return {
        'dense_ms': ms[0],
        'steps': [{key: row[key] for key in ('share', 'ms', 'fraction')} for row in rows if row['name'] is None],
        'references': [row for row in rows if row['name'] is not None],
    }


def report_shares(results: Sequence[dict[str, Any]]) -> str:
    """Write what :func:`benchmark_shares` returned, with a ``name`` each, as a table of Markdown.

    A cell is the fraction of the dense network's time, and in brackets the share that was visible.
    """
    count = max(len(result['steps']) for result in results)
    first = results[0]
    lines = [
        f'batch {first["batch"]}, float32, {first["device"]}, {first["threads"]} threads, medians of {first["runs"]}; '
        f'fraction of the time of {DENSE} (visible share)',
        '',
        f'| encoder | dense ms |{" |" * count} other code |',
        '|---' * (count + 3) + '|',
    ]
    for result in results:
        cells = [f'{step["fraction"]:.2f} ({step["share"]:.2f})' for step in result['steps']]
        others = [f'{row["name"]}: {row["fraction"]:.2f} ({row["share"]:.2f})' for row in result['references']]
        cells = [result['name'], f'{result["dense_ms"]:.0f}', *cells, ', '.join(others)]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)
