"""Measure weak scaling: several processes, each with its own images, beside one process alone."""

import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import torch
from mmengine.config import Config
from torch import distributed, nn

from mae_toolkit.datasets.transforms import parse_size
from mae_toolkit.engine import AutocastOptimWrapper, DataParallel, data_parallel_config, init_distributed
from mae_toolkit.engine.fsdp import FSDP2, find_blocks
from mae_toolkit.engine.sharded_optimizer import prepare_optim_wrapper
from mae_toolkit.errors import UserError
from mae_toolkit.models.build import build_model

ENGINES = ('DataParallel', 'FSDP2')
ALONE = '1 process'


def benchmark_distributed(
    cfg: Config,
    processes: int = 2,
    batch: int = 8,
    size: int | Sequence[int] | None = None,
    dtype: str = 'float32',
    runs: int = 10,
    start_method: str = 'spawn',
) -> dict[str, Any]:
    """Time training steps of one process, and of several with each engine, in turns.

    Each process has one thread on a CPU, or a GPU of its own, and the same number of images. They are noise; reading
    data is not part of a step.

    Args:
        cfg: Config of a pretraining.
        processes: Processes beside each other, 2 or more.
        batch: Images per step and process.
        size: Pixels of the images, of their sides or of height and width; None for the ``img_size`` of the encoder, or
            else 224.
        dtype: ``'float32'`` or ``'bfloat16'``, to which is autocast.
        runs: Timed steps of each, after two that do not count.
        start_method: How processes are started, see :mod:`multiprocessing`.

    Returns:
        The settings, and ``rows`` with ``name``, ``ms`` (median of a step), ``images_per_s`` of all processes,
        ``efficiency`` (of what as many processes alone would reach) and ``sent_mb``, the megabytes (1e6) that each
        process sends in a step, computed from the sizes of parameters and gradients for a ring.

    Raises:
        UserError: If there are fewer than two processes, or fewer GPUs than processes.
    """
    gpus = torch.cuda.device_count()
    if processes < 2:
        raise UserError(f'--processes {processes}: weak scaling compares 2 or more processes with one.')
    if 0 < gpus < processes:
        raise UserError(f'--processes {processes}: torch finds {gpus} GPUs, and each process needs one.')
    settings = dict(
        batch=batch, size=parse_size(size or cfg.model.encoder.get('img_size', 224)), dtype=dtype, runs=runs
    )
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    context: Any = multiprocessing.get_context(start_method)
    results = context.SimpleQueue()
    workers = [
        context.Process(target=_measure, args=(rank, processes, port, cfg, settings, results), daemon=True)
        for rank in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError(f'The processes ended with {[w.exitcode for w in workers]}: see their errors above.')
    times, sent = results.get()
    rows = [_make_row(name, times, sent.get(name, 0.0), batch, processes) for name in times]
    return settings | dict(processes=processes, device='cuda' if gpus else 'cpu', rows=rows)


def report(result: dict[str, Any]) -> str:
    """Write a result of :func:`benchmark_distributed` as a table of text."""
    height, width = result['size']
    each = 'a GPU each' if result['device'] == 'cuda' else 'one thread each'
    lines = [
        f'batch {result["batch"]} of {height} x {width} per process, {result["dtype"]}, {each}, '
        f'medians of {result["runs"]} steps in turns',
        f'{"":26}{"ms":>10}{"images/s":>10}{"efficiency":>12}{"MB sent":>10}',
    ]
    for row in result['rows']:
        lines.append(
            f'{row["name"]:26}{row["ms"]:10.1f}{row["images_per_s"]:10.1f}{row["efficiency"]:12.2f}{row["sent_mb"]:10.1f}'
        )
    lines.append('MB sent: by each process in a step, computed from the sizes of parameters for a ring')
    return '\n'.join(lines)


def count_sent(model: nn.Module, engine: str, processes: int, dtype: str = 'float32') -> float:
    """Count the megabytes (1e6) that each process sends in a step around a ring.

    Args:
        model: The model, not wrapped.
        engine: One of :data:`ENGINES`.
        processes: Processes in the ring.
        dtype: Type in which FSDP2 gathers blocks; all else is sent in float32.
    """
    share = (processes - 1) / processes / 1e6
    gradients = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    if engine == 'DataParallel':
        return 2 * share * gradients  # an all-reduce
    blocks = [p for block in find_blocks(model) for p in block.parameters()]
    between = sum(p.nbytes for p in model.parameters()) - sum(p.nbytes for p in blocks)
    gathered = sum(p.nbytes * (2 if p.requires_grad else 1) for p in blocks)  # frozen ones not for the backward pass
    return share * (between + gathered / (2 if dtype == 'bfloat16' else 1) + gradients)  # and a reduce-scatter


def _measure(rank: int, processes: int, port: int, cfg: Config, settings: dict[str, Any], results: Any) -> None:
    """Time the steps in this process; the first one returns what it measured."""
    os.environ |= {'RANK': str(rank), 'LOCAL_RANK': str(rank), 'WORLD_SIZE': str(processes)}
    os.environ |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
    init_distributed('pytorch')
    torch.set_num_threads(1)
    steps: dict[str, Callable[[], Any]] = {ALONE: _make_step(cfg, settings, None)}
    steps |= {f'{processes} processes, {engine}': _make_step(cfg, settings, engine) for engine in ENGINES}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(settings['runs'] + 2):
        for name, step in steps.items():
            distributed.barrier()
            if name == ALONE and rank:
                continue
            start = perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(perf_counter() - start)
    if rank == 0:
        model = build_model(cfg)
        sent = {
            f'{processes} processes, {engine}': count_sent(model, engine, processes, settings['dtype'])
            for engine in ENGINES
        }
        results.put(({name: median(values[2:]) for name, values in times.items()}, sent))
    distributed.barrier()
    distributed.destroy_process_group()


def _make_step(cfg: Config, settings: dict[str, Any], engine: str | None) -> Callable[[], Any]:
    """Make a function that trains on a batch of noise, alone if there is no engine."""
    torch.manual_seed(0)
    model: Any = build_model(cfg).train()
    shape = (settings['batch'], model.encoder.in_chans, *settings['size'])
    batch = {'imgs': torch.randint(256, shape, dtype=torch.uint8)}
    if engine == 'FSDP2':
        model = FSDP2(model, param_dtype='bfloat16' if settings['dtype'] == 'bfloat16' else None)
    elif torch.cuda.is_available():
        model = model.cuda()
    if engine == 'DataParallel':
        config = data_parallel_config(model)
        model = DataParallel(model, **{key: value for key, value in config.items() if key != 'type'})
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    wrapper = AutocastOptimWrapper(settings['dtype'], optimizer=torch.optim.AdamW(trained, lr=1e-5))
    if isinstance(model, FSDP2):
        prepare_optim_wrapper(wrapper, model)
    return lambda: model.train_step(batch, wrapper)


def _make_row(name: str, times: dict[str, float], sent: float, batch: int, processes: int) -> dict[str, Any]:
    rate = (1 if name == ALONE else processes) * batch / times[name]
    efficiency = times[ALONE] / times[name]
    return dict(name=name, ms=1000 * times[name], images_per_s=rate, efficiency=efficiency, sent_mb=sent)
