"""Measure speed: tools/benchmark.py KIND CONFIG..., embed FOLDER, hog, or anomaly ENCODER..., see --help."""

import argparse
import json
from pathlib import Path

from mae_toolkit.apis import load_config
from mae_toolkit.benchmarks.model_parts import NAMES
from mae_toolkit.cli import ConfigOptions, add_force, device, output_file, positive_int, run_tool, seed_number
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.outputs import check_output, check_picture_name

import torch

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest='kind', required=True)
    model = kinds.add_parser('model', help='training step, forward, encoder, decoder, eta')
    model.add_argument('configs', nargs='+', metavar='CONFIG', help='configs to measure, in turns')
    model.add_argument('--parts', nargs='+', choices=NAMES, default=list(NAMES), help='parts to measure (default: all)')
    model.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    model.add_argument('--batch', type=positive_int, default=8, help='images per step')
    model.add_argument(
        '--size', type=positive_int, nargs='+', help='pixels, one number, or height and width; else img_size'
    )
    model.add_argument('--dtype', nargs='+', choices=DTYPES, default=['float32'])
    model.add_argument('--runs', type=positive_int, default=5)
    model.add_argument(
        '--compile',
        nargs='?',
        choices=('whole', 'blocks'),
        const='whole',
        help='whole (the default), or by blocks',
    )
    shares = kinds.add_parser('shares', help="an encoder's training step by the visible share, beside dense networks")
    _add_shares(shares)
    data = kinds.add_parser('data', help='images/s per core, against the plain PIL + torchvision pipeline')
    data.add_argument('configs', nargs=1, metavar='CONFIG')
    data.add_argument('--make-jpegs', metavar='WxH', help='make JPEGs of this size from the images of the config first')
    data.add_argument(
        '--formats',
        nargs='+',
        choices=('folder', 'lmdb', 'wds'),
        help='compare files, LMDBs and tars instead',
    )
    data.add_argument('--runs', type=positive_int, default=5)
    embed = kinds.add_parser('embed', help="vectors of a folder on the CPU, against the plain loop over timm's network")
    embed.add_argument('folder', help='folder of images')
    embed.add_argument('--arch', nargs='+', default=['convnextv2_atto'], help='architectures in timm')
    embed.add_argument('--images', type=positive_int, default=256, help='images per pass')
    embed.add_argument('--make-jpegs', metavar='WxH', help='make JPEGs of this size from the images first')
    embed.add_argument('--size', type=positive_int, default=224, help='pixels per side of what the network sees')
    embed.add_argument('--batch', type=positive_int, default=32, help='images per batch')
    embed.add_argument('--workers', type=int, nargs='+', default=[0, 2], help='processes that read for the plain loop')
    embed.add_argument('--runs', type=positive_int, default=3)
    hog = kinds.add_parser('hog', help='HOG targets on one core, against scikit-image')
    hog.add_argument('--images', type=positive_int, default=64)
    hog.add_argument('--size', type=positive_int, default=224, help='pixels per side of the images, a multiple of 16')
    hog.add_argument('--runs', type=positive_int, default=5)
    detector = kinds.add_parser('detector', help="a detector's training step beside its backbone alone")
    detector.add_argument('configs', nargs='+', metavar='CONFIG')
    detector.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    detector.add_argument('--batch', type=positive_int, default=2, help='images per step')
    detector.add_argument('--size', type=positive_int, nargs=2, default=(320, 480), help='pixels, height and width')
    detector.add_argument('--runs', type=positive_int, default=5)
    hooks = kinds.add_parser('hooks', help='what the hooks of a run cost in each step')
    hooks.add_argument('configs', nargs=1, metavar='CONFIG')
    hooks.add_argument('--steps', type=positive_int, default=200, help='steps that are measured; 200 by default')
    together = kinds.add_parser('distributed', help='weak scaling of DataParallel and FSDP2 beside one process')
    together.add_argument('configs', nargs=1, metavar='CONFIG')
    together.add_argument('--processes', type=positive_int, default=2)
    together.add_argument('--batch', type=positive_int, default=8, help='images per step and process')
    together.add_argument('--size', type=positive_int, help='pixels per side; else img_size')
    together.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
    together.add_argument('--runs', type=positive_int, default=10)
    anomaly = kinds.add_parser('anomaly', help='PatchCore, fitting and scoring, against that of anomalib')
    _add_anomaly(anomaly)
    saving = kinds.add_parser('checkpoint', help='how long a training waits for its checkpoints')
    saving.add_argument('configs', nargs=1, metavar='CONFIG')
    saving.add_argument('--processes', type=positive_int, default=2, help='processes on this machine')
    saving.add_argument('--runs', type=positive_int, default=5, help='checkpoints of each kind')
    saving.add_argument('--folder', default='work_dirs', help='folder on the file system that is measured')
    for sub in (model, shares, data, embed, detector, hog, anomaly, saving, together, hooks):
        sub.add_argument('--json', metavar='FILE', type=output_file, help='JSON file for the numbers')
        add_force(sub)
    for sub in (model, shares, data, detector, saving, together, hooks):
        sub.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def _add_shares(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='configs to measure, in turns')
    parser.add_argument('--names', nargs='+', metavar='NAME', help='of the encoders; else those of the configs')
    parser.add_argument('--shares', type=float, nargs='+', default=[1, 0.75, 0.5, 0.4, 0.25, 0.1], help='visible parts')
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--batch', type=positive_int, default=8, help='images per step')
    parser.add_argument(
        '--size', type=positive_int, nargs='+', help='pixels, one number, or height and width; else img_size'
    )
    parser.add_argument('--runs', type=positive_int, default=3)
    parser.add_argument('--plot', metavar='PNG', type=output_file, help='picture of the times by the visible share')


def _add_anomaly(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('encoder', metavar='ENCODER', help='run, exported folder, checkpoint, or [FORMAT:]FILE[#PART]')
    parser.add_argument('fitted', metavar='NORMAL', help='folder of normal images to fit on, or of MVTec AD')
    parser.add_argument('tested', metavar='TESTED', help='test images: folder of MVTec AD, or images with --boxes')
    parser.add_argument('--fit-list', metavar='FILE', help="names those of NORMAL that are used: text, or COCO's JSON")
    parser.add_argument('--boxes', metavar='ANNOTATIONS', help="COCO's JSON file of defects, in place of that layout")
    parser.add_argument('--normal', metavar='FOLDER', help='with --boxes: normal test images')
    parser.add_argument('--normal-list', metavar='FILE', help='names those of them that are used')
    parser.add_argument('--arch', help='architecture of timm, if the weights do not say it')
    parser.add_argument('--size', type=positive_int, nargs='+', help='pixels of the images, or height and width')
    parser.add_argument('--coreset', type=float, default=0.1, help='share of the patches that is kept')
    parser.add_argument('--batch', type=positive_int, default=16, help='images per step of the fit')
    parser.add_argument('--runs', type=positive_int, default=3)
    parser.add_argument('--seed', type=seed_number, default=0)


def run_model(args: argparse.Namespace) -> list[dict]:
    """Measure all parts of all configs in all types, in turns."""
    from mae_toolkit.benchmarks.model import benchmark_models, compare, report

    cfgs = [load_config(path, args.cfg_options) for path in args.configs]
    size = args.size[0] if args.size and len(args.size) == 1 else args.size
    dtypes = tuple(DTYPES[name] for name in dict.fromkeys(args.dtype))
    measured = benchmark_models(cfgs, args.batch, size, dtypes, args.device, args.runs, args.compile, args.parts)
    paths = [path for path in args.configs for _ in dtypes]
    results = [{'config': path, **result} for path, result in zip(paths, measured, strict=True)]
    for result in results:
        print(f'\n{result["config"]}\n{report(result)}')
    if len(results) > 1:
        print(f'\n{compare(results)}')
    return results


def run_shares(args: argparse.Namespace) -> list[dict]:
    """Measure the encoders of all configs at all shares, in turns, and draw them."""
    from mae_toolkit.benchmarks.shares import benchmark_shares, report_shares
    from mae_toolkit.visualization.step_times import draw_step_times

    names = args.names or [Path(path).stem.removeprefix('encoder_') for path in args.configs]
    if len(names) != len(args.configs):
        raise UserError(
            f'--names has {len(names)} names, and there are {len(args.configs)} configs: give one for each.'
        )
    if args.plot:
        check_picture_name(args.plot)
        check_output(args.plot, args.force, args.configs)
    cfgs = [load_config(path, args.cfg_options) for path in args.configs]
    size = args.size[0] if args.size and len(args.size) == 1 else args.size
    measured = benchmark_shares(cfgs, args.shares, args.batch, size, args.device, args.runs)
    results = [
        {'config': path, 'name': name, **result}
        for path, name, result in zip(args.configs, names, measured, strict=True)
    ]
    print(report_shares(results))
    if args.plot:
        atomic_write(args.plot, lambda file: draw_step_times(results, file))
        print(f'wrote {args.plot}')
    return results


def run_detector(args: argparse.Namespace) -> list[dict]:
    from mae_toolkit.benchmarks.detector import benchmark_detector, report

    results = []
    for path in args.configs:
        cfg = load_config(path, args.cfg_options)
        found = benchmark_detector(cfg, args.batch, tuple(args.size), args.runs, args.device)
        print(f'{path}: {report(found)}')
        results.append({'config': path, **found})
    return results


def run_hooks(args: argparse.Namespace) -> list[dict]:
    from mae_toolkit.benchmarks.hooks import benchmark_hooks, report

    found = benchmark_hooks(load_config(args.configs[0], args.cfg_options), args.steps)
    print(f'{args.configs[0]}: {report(found)}')
    return [{'config': args.configs[0], **found}]


def run_distributed(args: argparse.Namespace) -> list[dict]:
    from mae_toolkit.benchmarks.distributed import benchmark_distributed, report

    cfg = load_config(args.configs[0], args.cfg_options)
    result = benchmark_distributed(cfg, args.processes, args.batch, args.size, args.dtype, args.runs)
    print(report(result))
    return [{'config': args.configs[0], **result}]


def run_data(args: argparse.Namespace) -> list[dict]:
    from mae_toolkit.benchmarks.data import benchmark_data, report

    cfg = load_config(args.configs[0], args.cfg_options)
    size = parse_jpeg_size(args.make_jpegs)
    if args.formats:
        from mae_toolkit.benchmarks.data_formats import benchmark_formats, report_formats

        found = benchmark_formats(cfg.train_dataloader.dataset, args.formats, args.runs, make_jpegs=size)
        print(report_formats(found))
        return [{'config': args.configs[0], **found}]
    result = benchmark_data(cfg.train_dataloader.dataset, rounds=args.runs, make_jpegs=size)
    print(report(result))
    return [{'config': args.configs[0], **result}]


def run_checkpoint(args: argparse.Namespace) -> list[dict]:
    from mae_toolkit.benchmarks.checkpoints import benchmark_checkpoint, report

    cfg = load_config(args.configs[0], args.cfg_options)
    result = benchmark_checkpoint(cfg, args.processes, args.runs, args.folder)
    print(report(result))
    return [{'config': args.configs[0], 'processes': args.processes, **result}]


def parse_jpeg_size(text: str | None) -> tuple[int, int] | None:
    """Read width and height, as in 500x375."""
    if not text:
        return None
    parts = text.lower().split('x')
    if len(parts) != 2 or not all(part.isdigit() and int(part) for part in parts):
        raise UserError(f'--make-jpegs {text}: give width and height, as in 500x375.')
    return int(parts[0]), int(parts[1])


def run_embed(args: argparse.Namespace) -> list[dict]:
    from mae_toolkit.benchmarks.embed import benchmark_embed, report

    size = parse_jpeg_size(args.make_jpegs)
    results = [
        benchmark_embed(arch, args.folder, args.size, args.batch, args.workers, args.images, args.runs, size)
        for arch in args.arch
    ]
    print(report(results))
    return results


def run_hog(args: argparse.Namespace) -> list[dict]:
    from mae_toolkit.benchmarks.hog import benchmark_hog, report

    result = benchmark_hog(args.images, args.size, args.runs)
    print(report(result))
    return [result]


def run_anomaly(args: argparse.Namespace) -> list[dict]:
    from mae_toolkit.benchmarks.anomaly import benchmark_anomaly, report
    from mae_toolkit.evaluation.anomaly.boxes import list_labeled
    from mae_toolkit.evaluation.anomaly.layout import list_normal

    if args.size and len(args.size) > 2:
        raise UserError(f'--size {" ".join(map(str, args.size))}: give one number, or height and width.')
    size = None if args.size is None else args.size[0] if len(args.size) == 1 else tuple(args.size)
    normal = [path for images in list_normal(args.fitted, args.fit_list) for path in images.paths]
    tested = list_labeled(args.tested, args.boxes, args.normal, args.normal_list)
    settings = {'coreset': args.coreset, 'batch': args.batch, 'runs': args.runs, 'seed': args.seed}
    result = benchmark_anomaly(args.encoder, normal, tested, args.arch, size, **settings)
    print(report(result))
    return [{'encoder_source': args.encoder, **result}]


def main() -> None:
    args = parse_args()
    if args.json:
        check_output(args.json, args.force, getattr(args, 'configs', ()))
    run = {'model': run_model, 'data': run_data, 'embed': run_embed, 'detector': run_detector, 'hog': run_hog}
    run |= {'anomaly': run_anomaly, 'checkpoint': run_checkpoint, 'distributed': run_distributed, 'hooks': run_hooks}
    run |= {'shares': run_shares}
    results = run[args.kind](args)
    if args.json:
        atomic_write(args.json, json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
    run_tool(main)
