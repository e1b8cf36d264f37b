"""What the features of the encoder are, as colors."""

from __future__ import annotations

from mae_toolkit.apis.feature_pictures import draw_components
from mae_toolkit.report.blocks import Block, Figure
from mae_toolkit.report.inputs import ReportInputs
from mae_toolkit.report.section import Section

SHOWN, SIDE = 6, 240  # images, and pixels of the longer side of each picture


def build(inputs: ReportInputs) -> list[Block]:
    """Draw the main components of the features of some images."""
    sample = inputs.sample(SHOWN)
    picture = draw_components(inputs.extractor, sample.items, side=SIDE)
    caption = (
        f'The three directions in which the features of {sample.note}, vary most, as red, green and blue: equal colors '
        'mean similar features, in all of the images.'
    )
    return [Figure(picture, 'Images beside their features as colors', caption)]


SECTION = Section('features', 'Features as colors', build)
