"""Write a page about a model and what it makes of images: tools/report.py CONFIG CHECKPOINT IMAGES... --out report.html

One HTML file holds all of it: how the model was trained and measured, what it reconstructs, what its features are, and
with what the report was made. The page loads nothing from anywhere, and can be read on a phone and printed.
"""

import argparse
import sys
from collections.abc import Sequence

from mae_toolkit.cli import (
    add_config_options,
    add_force,
    add_limits,
    device,
    parse_limits,
    positive_int,
    positive_number,
    run_tool,
    seed_number,
)
from mae_toolkit.config import load_config
from mae_toolkit.datasets.image_limits import DEFAULT_LIMITS
from mae_toolkit.printing import format_count, printable
from mae_toolkit.report import ReportSource, write_report
from mae_toolkit.report.inputs import MOST_IMAGES
from mae_toolkit.report.sections import SECTIONS
from mae_toolkit.report.writing import MOST_MEGABYTES


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the pretraining')
    parser.add_argument('checkpoint', help='checkpoint, or the folder of the run: its best one, or else its newest')
    parser.add_argument('images', nargs='+', help='files, folders, or patterns such as "photos/**/*.jpg"')
    parser.add_argument('--out', required=True, metavar='report.html', help='the page')
    parser.add_argument('--run', metavar='FOLDER', help='folder of the run with its logs; that of the checkpoint')
    parser.add_argument(
        '--labels', metavar='SET', help='labeled images for probes: class folders, a CSV, or images and masks'
    )
    parser.add_argument('--label-images', metavar='FOLDER', help='images of SET, if it is a CSV or a folder of masks')
    parser.add_argument(
        '--reference', nargs='+', metavar='IMAGES', help='images to compare with; those of the training by default'
    )
    parser.add_argument('--other', metavar='ENCODER', help='run, checkpoint or weights to compare the features with')
    parser.add_argument('--title', help='heading of the page')
    names = ', '.join(section.name for section in SECTIONS)
    parser.add_argument('--sections', nargs='+', metavar='NAME', help=f'some of {names}; all by default')
    parser.add_argument(
        '--max-images', type=positive_int, default=MOST_IMAGES, help='images that are looked at; %(default)s by default'
    )
    parser.add_argument(
        '--max-megabytes', type=positive_number, default=MOST_MEGABYTES, help='size of the page; %(default)s by default'
    )
    parser.add_argument('--seed', type=seed_number, default=0, help='seed of masks, splits and maps')
    parser.add_argument('--device', type=device, help='cpu or cuda; a GPU if there is one')
    add_limits(parser)
    add_force(parser)
    add_config_options(parser)
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    options = parse_args(args)
    source = ReportSource(
        load_config(options.config, options.cfg_options),
        options.checkpoint,
        options.images,
        run=options.run,
        labels=options.labels,
        label_images=options.label_images,
        reference=options.reference,
        other=options.other,
        most_images=options.max_images,
        seed=options.seed,
        device=options.device,
        limits=parse_limits(options) or DEFAULT_LIMITS,
    )
    report = write_report(
        source,
        options.out,
        title=options.title,
        sections=options.sections,
        most_megabytes=options.max_megabytes,
        force=options.force,
    )
    for name, reason in report.skipped.items():
        print(f'skipped {printable(name)}: {printable(reason)}', file=sys.stderr)
    left_out = [one.section.title for one in report.sections if one.mistake or one.left_out]
    made, skipped = len(report.sections) - len(left_out), len(report.skipped)
    print(
        f'wrote {printable(report.path)}: {report.bytes / 1e6:.1f} MB, {format_count(report.images, "image")}, '
        f'{format_count(made, "section")}; {format_count(skipped, "image")} skipped; '
        f'sections left out: {", ".join(left_out).lower() or "none"}'
    )


if __name__ == '__main__':
    run_tool(main)
