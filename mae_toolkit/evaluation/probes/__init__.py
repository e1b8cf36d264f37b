"""What the features of a frozen encoder are worth: probes with labels and without, one file each."""

from mae_toolkit.evaluation.probes.data import Part, Probe, ProbeData, ProbeResult, hold_out
from mae_toolkit.evaluation.probes.table import OF_CLASSES, OF_MASKS, PROBES, Row, run_probes

__all__ = [
    'OF_CLASSES',
    'OF_MASKS',
    'PROBES',
    'Part',
    'Probe',
    'ProbeData',
    'ProbeResult',
    'Row',
    'hold_out',
    'run_probes',
]
