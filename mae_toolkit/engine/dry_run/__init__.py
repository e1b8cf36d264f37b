"""Try before training what would otherwise fail much later: the validation, and norms that get a single value."""

from mae_toolkit.engine.dry_run.norms import check_norms
from mae_toolkit.engine.dry_run.validation import DryRun, try_validation
from mae_toolkit.engine.dry_run.watchers import check_rules, check_watched, find_watched_metrics

__all__ = [
    'DryRun',
    'check_norms',
    'check_rules',
    'check_watched',
    'find_watched_metrics',
    'try_validation',
]
