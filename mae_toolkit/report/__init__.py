"""One page about a model: what it learned, how it was trained, and with what."""

from mae_toolkit.report.blocks import Block, Bullets, Figure, Listing, Table, Text
from mae_toolkit.report.inputs import NotApplicable, ReportInputs, ReportSource
from mae_toolkit.report.section import BuiltSection, Section
from mae_toolkit.report.writing import Report, write_report

__all__ = [
    'Block',
    'BuiltSection',
    'Bullets',
    'Figure',
    'Listing',
    'NotApplicable',
    'Report',
    'ReportInputs',
    'ReportSource',
    'Section',
    'Table',
    'Text',
    'write_report',
]
