"""Find defects that nobody has labeled: fit a detector on normal images, score others, and measure it.

tools/anomaly.py fit runs/photos parts/normal --out parts.safetensors
tools/anomaly.py score parts.safetensors parts/new --out found
tools/anomaly.py evaluate parts.safetensors mvtec/bottle --out measured.json
tools/anomaly.py table measured.json another.json
tools/anomaly.py show parts.safetensors mvtec/bottle --measured measured.json --out heat.png
tools/anomaly.py evaluate parts.safetensors parts/images --boxes parts/test.json --normal parts/good
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from mae_toolkit.cli import (
    ConfigOptions,
    add_force,
    device,
    fraction,
    output_file,
    positive_int,
    positive_number,
    run_tool,
    seed_number,
)
from mae_toolkit.printing import format_count, printable

LIST = "that are used: a text file, or COCO's JSON"


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    _add_fit(commands.add_parser('fit', help='fit a detector on normal images'))
    score = commands.add_parser('score', help='write heat maps, boxes and numbers of images')
    _add_detector(score)
    score.add_argument('images', nargs='+', metavar='IMAGES', help='files, folders, or patterns')
    score.add_argument('--out', required=True, help='folder for the pictures, maps and anomalies.json')
    score.add_argument('--show', type=positive_int, help='pixels of the longer side of each picture')
    evaluate = commands.add_parser('evaluate', help='measure a detector on test images with labels and masks')
    _add_detector(evaluate)
    evaluate.add_argument(
        'folder', metavar='FOLDER', help='category in the layout of MVTec AD, or of categories; images with --boxes'
    )
    evaluate.add_argument('--boxes', metavar='ANNOTATIONS', help="COCO's JSON file of defects, in place of that layout")
    evaluate.add_argument('--normal', metavar='FOLDER', help='with --boxes: normal test images')
    evaluate.add_argument('--normal-list', metavar='FILE', help=f'names those of them {LIST}')
    evaluate.add_argument('--out', help='JSON file for all measures and scores')
    show = commands.add_parser('show', help='one picture: test images, their heat maps, and what is labeled')
    _add_detector(show)
    show.add_argument('folder', metavar='FOLDER', help='category in the layout of MVTec AD; images with --boxes')
    show.add_argument('--boxes', metavar='ANNOTATIONS', help="COCO's JSON file of defects, in place of that layout")
    show.add_argument('--images', type=positive_int, default=2, help='the first so many defective ones are shown')
    show.add_argument('--measured', metavar='FILE', help='what evaluate --out has written: its pixel AUROC is shown')
    show.add_argument('--out', required=True, type=output_file, help='PNG to write')
    for command in (score, evaluate, show):
        add_force(command)
    table = commands.add_parser('table', help='one table of what evaluate has measured of several detectors')
    table.add_argument('files', nargs='+', metavar='FILE', help='what evaluate --out has written')
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    options = parse_args(args)
    commands = {'fit': _fit, 'score': _score, 'evaluate': _evaluate, 'table': _table, 'show': _show}
    commands[options.command](options)


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('encoder', metavar='ENCODER', help='run, exported folder, checkpoint, or [FORMAT:]FILE[#PART]')
    parser.add_argument('normal', nargs='+', metavar='NORMAL', help='folder of normal images, or of MVTec AD')
    parser.add_argument('--normal-list', metavar='FILE', help=f'names the images of NORMAL {LIST}')
    parser.add_argument('--out', required=True, help='file ending in .safetensors')
    parser.add_argument(
        '--methods',
        nargs='+',
        default=['patchcore'],
        help='some of patchcore, padim, anomalydino and reconstruction; several are fused',
    )
    parser.add_argument('--run', help='reconstruction: run of the masked autoencoder, if it is not ENCODER')
    parser.add_argument('--arch', help='architecture of timm, if the weights do not say it')
    parser.add_argument('--size', type=positive_int, nargs='+', help='pixels of the images, or height and width')
    parser.add_argument('--tile', type=positive_int, help='cut images into tiles of so many pixels')
    parser.add_argument('--overlap', type=fraction, default=0.25, help='share of a tile that the next one covers, too')
    parser.add_argument('--smooth', type=float, default=4.0, help='pixels of the Gaussian that smooths maps')
    parser.add_argument('--shots', type=positive_int, help='use so many normal images of each category')
    parser.add_argument('--held-out', type=fraction, default=0.2, help='share of normal images that sets thresholds')
    parser.add_argument('--held-out-images', nargs='+', default=(), help='folders of normal images in place of it')
    parser.add_argument('--held-out-list', metavar='FILE', help=f'names those of them {LIST}')
    parser.add_argument('--percentile', type=positive_number, default=95.0, help='of them, which is the threshold')
    parser.add_argument('--decide-by', choices=('max', 'top'), default='max', help='greatest patch, or top hundredth')
    parser.add_argument('--seed', type=seed_number, default=0)
    parser.add_argument('--batch-size', type=positive_int, default=16)
    parser.add_argument('--device', type=device, help='cpu or cuda; a GPU if there is one')
    parser.add_argument(
        '--settings',
        nargs='+',
        action=ConfigOptions,
        default={},
        metavar='KEY=VALUE',
        help='of the methods: coreset=0.1 neighbors=1 reweight=True dimensions=100 levels=2,3 masks=4 repeats=2',
    )
    add_force(parser)


def _add_detector(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('detector', metavar='DETECTOR', help='what fit has written')
    parser.add_argument('--encoder', help='the encoder that it was fitted with, if it is not where it was')
    parser.add_argument('--run', help='the run of the masked autoencoder likewise')
    parser.add_argument('--device', type=device, help='cpu or cuda; a GPU if there is one')


def _fit(options: argparse.Namespace) -> None:
    from mae_toolkit.apis import fit_anomaly_detector
    from mae_toolkit.evaluation.anomaly.file import check_detector_file

    check_detector_file(options.out, options.force)
    detector = fit_anomaly_detector(
        options.encoder,
        options.normal,
        options.methods,
        reconstruct_with=options.run,
        encoder=options.arch,
        size=_parse_size(options.size),
        tile=options.tile,
        overlap=options.overlap,
        smooth=options.smooth,
        shots=options.shots,
        held_out=options.held_out,
        held_out_images=options.held_out_images,
        normal_list=options.normal_list,
        held_out_list=options.held_out_list,
        percentile=options.percentile,
        decide_by=options.decide_by,
        seed=options.seed,
        batch_size=options.batch_size,
        device=options.device,
        **options.settings,
    )
    detector.save(options.out, options.force)
    _report_fit(detector, options.out)


def _parse_size(size: Sequence[int] | None) -> Any:
    from mae_toolkit.errors import UserError

    if size is not None and len(size) > 2:
        raise UserError(f'--size {" ".join(map(str, size))}: give one number, or height and width.')
    return None if size is None else size[0] if len(size) == 1 else tuple(size)


def _report_fit(detector: Any, out: str) -> None:
    about, own = detector.about, detector.detector
    methods = ' and '.join(branch.name for branch in own.branches)
    print(f'{methods}, fitted on {format_count(about["fitted_images"], "normal image")}: {out}')
    _report_skipped(own.skipped)
    if not own.thresholds:
        print('no thresholds: with so few images none could be held out; name some by --held-out-images')
        return
    how = 'each left out in turn' if about['left_out_in_turn'] else 'held out'
    numbers = ', '.join(f'{name} {value:.2f}' for name, value in own.thresholds.items())
    print(
        f'thresholds ({numbers}): percentile {own.percentile:g} of '
        f'{format_count(about["threshold_images"], "normal image")}, {how}'
    )


def _report_skipped(skipped: dict[str, str]) -> None:
    for name, reason in skipped.items():
        print(f'skipped {printable(name)}: {printable(reason)}', file=sys.stderr)


def _load(options: argparse.Namespace) -> Any:
    from mae_toolkit.apis import load_anomaly_detector

    return load_anomaly_detector(options.detector, options.encoder, options.run, options.device)


def _score(options: argparse.Namespace) -> None:
    detector = _load(options)
    images = options.images[0] if len(options.images) == 1 else options.images
    record = detector.write(images, options.out, options.show, options.force)
    _report_skipped(detector.skipped)
    anomalous = sum(bool(one['is_anomalous']) for one in record['images'])
    print(
        f'{format_count(anomalous, "anomalous image")} of {len(record["images"])}; wrote pictures, maps and '
        f'anomalies.json to {options.out}'
    )


def _evaluate(options: argparse.Namespace) -> None:
    boxes = {'boxes': options.boxes, 'normal': options.normal, 'normal_list': options.normal_list}
    result = _load(options).evaluate(options.folder, options.out, options.force, **boxes)
    for category, measured in result['measured'].items():
        print(f'{category}: {measured["normal"]} normal, {measured["defective"]} defective')
        for name, value in measured.items():
            if isinstance(value, dict):
                for part, number in value.items():
                    print(f'  {name + " " + part:16}{_format(number)}')
            elif name not in ('normal', 'defective'):
                print(f'  {name:16}{_format(value)}')


def _show(options: argparse.Namespace) -> None:
    from mae_toolkit.apis.anomaly_pictures import draw_labeled_anomalies
    from mae_toolkit.outputs import check_output, check_picture_name, is_own_picture, write_picture

    check_picture_name(options.out)
    check_output(options.out, options.force, (options.detector,), lambda path: is_own_picture(path, 'anomaly'))
    detector = _load(options)
    picture = draw_labeled_anomalies(detector, options.folder, options.images, options.measured, options.boxes)
    write_picture(options.out, picture, 'anomaly')
    print(f'wrote {options.out}')


def _table(options: argparse.Namespace) -> None:
    from mae_toolkit.apis.anomaly_table import format_anomaly_table

    print(format_anomaly_table(options.files))


def _format(value: float | None) -> str:
    return '-' if value is None else f'{value:.4f}'


if __name__ == '__main__':
    run_tool(main)
