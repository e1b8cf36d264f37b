"""Tables of several pretrained encoders on the same tasks: read the YAML, plan the runs, run them, write the table."""

from mae_toolkit.transfer.experiment import read_experiment
from mae_toolkit.transfer.plan import make_plan, overview

__all__ = ['make_plan', 'overview', 'read_experiment']
