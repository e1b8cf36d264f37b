"""Plan a pretraining on GPUs: memory, images/s, days, cost, traffic: tools/plan.py CONFIG --gpus 64 --kind H200."""

import argparse
import json

from mae_toolkit.apis import load_config
from mae_toolkit.cli import ConfigOptions, add_force, output_file, positive_int, positive_number, run_tool
from mae_toolkit.files import atomic_write
from mae_toolkit.models.compile import REGIONS
from mae_toolkit.outputs import check_output
from mae_toolkit.planning.cluster.choices import choose_batch, choose_device, find_epochs
from mae_toolkit.planning.cluster.counted import CountedTraining
from mae_toolkit.planning.cluster.dry_run import dry_run
from mae_toolkit.planning.cluster.measure import compare, measure_step
from mae_toolkit.planning.cluster.plan import make_plan
from mae_toolkit.planning.cluster.report import report
from mae_toolkit.planning.cluster.settings import ENGINES, Settings, check_trains, find_dtype
from mae_toolkit.planning.cluster.traffic import Network

GB = 1e9


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', metavar='CONFIG', help='config of a pretraining')
    parser.add_argument('--gpus', type=positive_int, default=1, help='number of GPUs (default: 1)')
    parser.add_argument('--kind', help='name of the GPU, such as H200 or A100-SXM-80GB; cpu for this one')
    parser.add_argument('--gpus-per-node', type=positive_int, default=8)
    parser.add_argument('--network', type=positive_number, default=25.0, help='GB/s between nodes, of a node (25)')
    parser.add_argument('--batch', type=positive_int, help="images per GPU and step (default: the config's)")
    parser.add_argument('--total-batch', type=positive_int, help='images per step of all GPUs, instead of --batch')
    parser.add_argument('--engine', choices=ENGINES, default='ddp')
    parser.add_argument(
        '--compile', nargs='?', choices=REGIONS, const='blocks', help='with torch.compile, by blocks or as a whole'
    )
    parser.add_argument('--dtype', choices=('float32', 'bfloat16', 'float16'), help="default: the config's")
    parser.add_argument('--amp', action='store_true', help='in bfloat16, as tools/train.py --amp')
    parser.add_argument('--tf32', action='store_true', help='multiply float32 on tensor cores')
    parser.add_argument('--efficiency', type=positive_number, help='share of the peak, instead of the estimate')
    parser.add_argument('--no-overlap', action='store_true', help='gradients are sent after the backward pass')
    parser.add_argument('--images', type=positive_int, default=1_281_167, help="images of an epoch (ImageNet's)")
    parser.add_argument('--epochs', type=positive_number, help="default: the config's")
    parser.add_argument('--price', type=positive_number, help='of a GPU hour')
    parser.add_argument('--data-rate', type=positive_number, help='images/s that the data loader of a GPU gives')
    parser.add_argument('--disk', type=positive_number, default=2.0, help='GB/s to the storage of checkpoints (2)')
    parser.add_argument('--measure', action='store_true', help='train some steps here, and compare with the estimate')
    parser.add_argument('--dry-run', action='store_true', help='build rank --rank of --gpus here, and train two steps')
    parser.add_argument('--rank', type=int, default=0, help='rank of the dry run')
    parser.add_argument('--json', metavar='FILE', type=output_file, help='JSON file for the numbers')
    add_force(parser)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    """Plan, or try two steps of one rank."""
    args = parse_args()
    if args.json:
        check_output(args.json, args.force)
    cfg = load_config(args.config, args.cfg_options)
    check_trains(cfg)
    batch = choose_batch(cfg, args.gpus, args.batch, args.total_batch)
    if args.dry_run:
        print(dry_run(cfg, args.gpus, args.rank, batch, args.engine))
        return
    dtype = find_dtype(cfg, 'bfloat16' if args.amp else args.dtype)
    device = choose_device(args.kind, dtype, args.tf32, args.measure)
    total = batch * args.gpus * cfg.optim_wrapper.get('accumulative_counts', 1)
    settings = Settings(
        gpus=args.gpus,
        batch=batch,
        dtype=dtype,
        memory=device.memory,
        network=Network(args.gpus_per_node, device.link, args.network * GB),
        engine=args.engine,
        compiled=args.compile is not None,
        efficiency=args.efficiency,
        images=args.images,
        epochs=args.epochs or find_epochs(cfg, args.images, total),
        price=args.price,
        overlap=not args.no_overlap,
        data_rate=args.data_rate,
        disk=args.disk * GB,
    )
    counted = CountedTraining(cfg, dtype, as_gpu=device.is_gpu)
    plan = make_plan(counted, settings, device.rates)
    print(report(plan), flush=True)
    if args.measure:
        plan['measured'] = measure_step(cfg, batch, dtype, counted.size, device.torch_device, args.compile)
        print(compare(counted, settings, device.list_rates(dtype), plan['measured']))
    if args.json:
        atomic_write(args.json, json.dumps(plan, indent=2).encode())


if __name__ == '__main__':
    run_tool(main)
