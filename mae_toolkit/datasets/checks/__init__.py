"""One look at the data of a config before the first step, for all tasks."""

from mae_toolkit.datasets.checks.report import DataReport, Finding, SplitReport

__all__ = ['DataReport', 'Finding', 'SplitReport']
