"""The whole config, as it was read."""

from __future__ import annotations

from mae_toolkit.apis.run_show import compare_run_configs, read_run_config
from mae_toolkit.config.text import to_plain
from mae_toolkit.printing import printable, shorten
from mae_toolkit.report.blocks import Block, Listing, Table, Text
from mae_toolkit.report.inputs import ReportInputs
from mae_toolkit.report.section import Section

LONGEST = 80  # characters of a value in the table of differences
MOST = 500_000  # characters of a config


def build(inputs: ReportInputs) -> list[Block]:
    """List the settings in which the config differs from that of the run, and all of them."""
    blocks: list[Block] = []
    kept = None if inputs.run is None else read_run_config(inputs.run)
    if kept is not None:
        found = compare_run_configs(kept, to_plain(inputs.cfg))
        if found:
            rows = [(printable(one.key), _write(one.saved), _write(one.given)) for one in found]
            caption = 'Where this config differs from that of the run'
            blocks.append(Table(caption, ('setting', 'in the run', 'here'), rows))
        else:
            blocks.append(Text('The config is that of the run.'))
    text = inputs.cfg.pretty_text
    if len(text) > MOST:
        blocks.append(Text(f'The config has {len(text):,} characters, of which the first {MOST:,} are shown.'))
    return [*blocks, Listing(f'All settings of {inputs.config_name}', text[:MOST])]


def _write(value: object) -> str:
    return shorten(printable(repr(value)), LONGEST)


SECTION = Section('config', 'Config', build)
