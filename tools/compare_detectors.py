"""Compare detectors on the same held-out images: tools/compare_detectors.py "from scratch=RUN" pretrained=RUN --out PNG

Each is measured on the whole test set of its config. The picture has a row for each of its first images: what is
labeled, then what each detector finds. The JSON file beside it has all metrics.
"""

import argparse
from collections.abc import Sequence

from mae_toolkit.apis.detector_comparison import METRIC, check_compared, compare_detectors
from mae_toolkit.cli import add_force, device, fraction, output_file, positive_int, run_tool
from mae_toolkit.downstream.task_predictors import DEFAULT_SCORE
from mae_toolkit.errors import UserError

import torch


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', metavar='NAME=RUN', help='folders of trainings, with the names of columns')
    parser.add_argument('--out', required=True, type=output_file, help='PNG to write')
    parser.add_argument('--images', type=positive_int, default=2, help='of the test set, the first so many are shown')
    parser.add_argument('--score', type=fraction, default=DEFAULT_SCORE, help='leave out boxes of a lower score')
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu')
    add_force(parser)
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    options = parse_args(args)
    runs = parse_runs(options.runs)
    check_compared(options.out, options.force)
    compared = compare_detectors(runs, options.images, options.score, options.device)
    compared.write(options.out)
    for name, found in compared.numbers['detectors'].items():
        average = found['metrics'].get(METRIC)
        print(f'{name}: {METRIC} {"none" if average is None else f"{average:.4f}"}, boxes drawn {found["boxes"]}')
    print(f'wrote {options.out} and the numbers beside it')


def parse_runs(texts: Sequence[str]) -> dict[str, str]:
    """Read folders by name; a folder alone is named by its path."""
    runs: dict[str, str] = {}
    for text in texts:
        name, equals, folder = text.partition('=')
        if name in runs:
            raise UserError(f'{name} is named twice: give each run a name of its own.')
        runs[name] = folder if equals else name
    return runs


if __name__ == '__main__':
    run_tool(main)
