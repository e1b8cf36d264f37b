"""What a table needs: its runs, what is done of them, and how long the rest takes."""

import fnmatch
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import TypeVar

from mae_toolkit.errors import UserError
from mae_toolkit.registry import suggest
from mae_toolkit.transfer.configs import ConfigCache
from mae_toolkit.transfer.evaluations import hash_evaluation
from mae_toolkit.transfer.experiment import EncoderEntry, Experiment
from mae_toolkit.transfer.hashes import FileHashes, digest, settings_hash
from mae_toolkit.transfer.job import DONE, JOB, MISSING, RESULT, STATES, WEIGHTS, Job, read_job, slug
from mae_toolkit.transfer.run_records import (
    PlannedWeights,
    PretrainingOrigin,
    PretrainingRecord,
    RunRecord,
)
from mae_toolkit.transfer.tasks import Task

# What --only can ask for, and the attribute of a run's record that it compares.
FILTERS = {'encoder': 'encoder', 'task': 'task', 'labels': 'label_fraction', 'seed': 'seed'}
Part = TypeVar('Part', EncoderEntry, Task)


@dataclass(frozen=True)
class Plan:
    """The runs of an experiment.

    Attributes:
        experiment: What was asked for.
        jobs: Its runs, task by task, in the order of the YAML.
        mistakes: Why some runs are not among them.
        others: Folders of finished runs of other settings.
    """

    experiment: Experiment
    jobs: list[Job]
    mistakes: list[str] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)

    def only(self, filters: Iterable[str]) -> 'Plan':
        """Return the plan with the runs alone that fit all filters.

        Args:
            filters: ``encoder=…``, ``task=…``, ``labels=…`` or ``seed=…``, with ``*`` for anything. Where there are
                several with one key, one of them has to fit.

        Raises:
            UserError: If a filter is none, or no run fits it.
        """
        wanted: dict[str, set[str]] = {}
        for text in filters:
            key, _, value = text.partition('=')
            if key not in FILTERS:
                raise UserError(f'--only {text}: give KEY=VALUE, with one of the keys {", ".join(FILTERS)}.')
            known = sorted({_value_of(job, key) for job in self.jobs})
            value = _format(float(value)) if key == 'labels' and _is_float(value) else value
            fitting = [name for name in known if name == value] or fnmatch.filter(known, value)
            if not fitting:
                raise UserError(f'--only {text}: there is no such {key}{suggest(value, known)}')
            wanted.setdefault(key, set()).update(fitting)
        return replace(
            self, jobs=[job for job in self.jobs if all(_value_of(job, key) in wanted[key] for key in wanted)]
        )

    def todo(self, queued: Container[str] = ()) -> list[Job]:
        """List the jobs that are not done, each pretraining before the runs that need it.

        Args:
            queued: Numbers of the jobs that Slurm has.
        """
        found: list[Job] = []
        for job in self.jobs:
            if job.state(queued) == DONE:
                continue
            if job.needs is not None and job.needs not in found and job.needs.state(queued) != DONE:
                found.append(job.needs)
            found.append(job)
        return sorted(found, key=lambda job: isinstance(job.record, RunRecord))

    def times(self) -> dict[str | tuple[str, str], float]:
        """Average the seconds of the finished runs that were not interrupted, by task, and by task and encoder."""
        found: dict[str | tuple[str, str], list[float]] = {}
        for job in self.jobs:
            result = job.result()
            if result is not None and not result.resumed:
                for key in (job.record.task, (job.record.task, job.record.encoder)):
                    found.setdefault(key, []).append(result.seconds)
        return {key: mean(values) for key, values in found.items()}

    def remaining(self, jobs: Sequence[Job], workers: int = 1) -> str:
        """Estimate how long jobs take, by the finished ones of the same task and encoder, or else of the same task.

        Args:
            jobs: The jobs.
            workers: How many of them run at once.

        Returns:
            The time as text.
        """
        times = self.times()
        keys = [(job.record.task, job.record.encoder) for job in jobs]
        taken = [times.get(key, times.get(key[0])) for key in keys]
        unknown = sorted({task for (task, _), time in zip(keys, taken, strict=True) if time is None})
        known = [time for time in taken if time is not None]
        total = max([sum(known) / workers, *known])
        if not unknown:
            return f'about {_format_duration(total)}'
        rest = f'unknown for {", ".join(unknown)} until one run of it has finished'
        return f'more than {_format_duration(total)}; {rest}' if known else rest


def make_plan(experiment: Experiment) -> Plan:
    """Find the runs of an experiment, and what is wrong with its configs."""
    return _Planner(experiment).plan()


def overview(plan: Plan, queued: Container[str] = (), workers: int = 1) -> str:
    """Show a plan in lines: counts per encoder and task, and the time of what is missing.

    Args:
        plan: The plan.
        queued: Numbers of the jobs that Slurm has.
        workers: Processes at once.
    """
    counts: dict[tuple[str, str], Counter] = {}
    for job in plan.jobs:
        counts.setdefault((job.record.task, job.record.encoder), Counter())[job.state(queued)] += 1
    wide = max([len(encoder) for _, encoder in counts] + [7])
    long = max([len(task) for task, _ in counts] + [4])
    states = [state for state in STATES if state in (DONE, MISSING) or any(c[state] for c in counts.values())]
    lines = [f'{"task":{long}}  {"encoder":{wide}}' + ''.join(f'{state:>9}' for state in states)]
    for (task, encoder), found in counts.items():
        lines.append(f'{task:{long}}  {encoder:{wide}}' + ''.join(f'{found[state] or "":>9}' for state in states))
    for job in dict.fromkeys(job.needs for job in plan.jobs if job.needs):
        lines.append(f'pretraining of {job.record.encoder}: {job.state(queued)}')
    todo = plan.todo(queued)
    done = sum(found[DONE] for found in counts.values())
    lines.append(
        f'{done} of {len(plan.jobs)} runs are done; time left: {plan.remaining(todo, workers)}.'
        if todo
        else f'All {len(plan.jobs)} runs are done.'
    )
    if plan.others:
        lines.append(f'{len(plan.others)} runs of other settings are kept and not counted:')
        lines += [f'  {path}' for path in plan.others]
    return '\n'.join(lines)


class _Planner:
    """Planner of the jobs of an experiment; configs and files are read once."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.configs, self.files = experiment, ConfigCache(experiment), FileHashes()
        self.wrong: dict[tuple[str, str], list[str]] = {}  # names of tasks by what is wrong with which part
        self.pretrainings: dict[str, Job] = {}

    def plan(self) -> Plan:
        experiment = self.experiment
        tasks = self._readable('task', experiment.tasks, self.configs.task)
        encoders = self._readable('encoder', experiment.encoders, self.configs.encoder)
        jobs = [job for task in tasks for entry in encoders for job in self._runs(entry, task)]
        mistakes = [_describe_mistake(who, reason, tasks) for (who, reason), tasks in self.wrong.items()]
        mistakes += _find_twins(jobs)
        ids = {job.id for job in jobs}
        folders = [path.parent for path in sorted(experiment.work_dir.glob(f'runs/*/{JOB}'))]
        finished = [(read_job(folder), folder) for folder in folders if (folder / RESULT).is_file()]
        return Plan(
            experiment, jobs, mistakes, [folder for record, folder in finished if record and record.id not in ids]
        )

    def _readable(self, role: str, parts: Iterable[Part], read: Callable[[Part], object]) -> list[Part]:
        """Keep the parts whose configs can be read, and note what is wrong with the others."""
        found = []
        for part in parts:
            try:
                read(part)
                found.append(part)
            except UserError as error:
                self.wrong[f'{role} {part.name!r}', str(error)] = []
        return found

    def _runs(self, entry: EncoderEntry, task: Task) -> list[Job]:
        """Make the runs of an encoder on a task; none if something is wrong with them, which is noted."""
        try:
            needs = self._pretraining(entry, entry.pretrain) if entry.pretrain else None
            return [
                self._run(entry, task, label_fraction, seed, needs)
                for label_fraction in self.experiment.label_fractions
                for seed in self.experiment.seeds
            ]
        except UserError as error:
            self.wrong.setdefault((f'encoder {entry.name!r}', str(error)), []).append(task.name)
            return []

    def _run(self, entry: EncoderEntry, task: Task, label_fraction: float, seed: int, needs: Job | None) -> Job:
        path = str(needs.folder / WEIGHTS) if needs else entry.checkpoint
        cfg = self.configs.run(entry, task, label_fraction, seed, path)
        sha256 = None if needs or path is None else self.files.weights(path)
        if task.frozen:
            settings = hash_evaluation(cfg, task.options, label_fraction, seed)
            data = self.files.labeled_set(task.config, task.options.get('images'))
        else:
            settings, data = settings_hash(cfg, path), self.files.data(cfg)
        origin = f'pretraining {needs.id}' if needs else sha256
        identity = digest([settings, label_fraction, seed, origin, sorted(data.items())])[:12]
        encoder = self.configs.encoder(entry)
        record = RunRecord(
            id=identity,
            task=task.name,
            encoder=entry.name,
            label_fraction=label_fraction,
            seed=seed,
            family=entry.family or f'{encoder.get("type")} {encoder.get("arch", "")}'.strip(),
            pretrained=entry.pretrained,
            config=task.config,
            options=self.experiment.options(entry, task),
            metrics_needed=tuple(metric.key for metric in task.metrics),
            settings=settings,
            data=data,
            weights=PlannedWeights(path, sha256) if path else None,
            pretraining=PretrainingOrigin(needs.id, needs.record.config, needs.record.settings) if needs else None,
            keep_checkpoints=self.experiment.keep_checkpoints,
            frozen=task.frozen,
        )
        name = '_'.join(map(slug, (task.name, entry.name, f'{label_fraction:g}', seed, identity)))
        return Job(identity, _folder_of(self.experiment.work_dir / 'runs', name, identity), record, cfg, needs)

    def _pretraining(self, entry: EncoderEntry, config: str) -> Job:
        """Make the pretraining of an encoder; several encoders may share one."""
        cfg = self.configs.pretraining(entry)
        settings, data = settings_hash(cfg), self.files.data(cfg)
        identity = digest([settings, sorted(data.items())])[:12]
        record = PretrainingRecord(
            id=identity,
            encoder=entry.name,
            config=config,
            options=entry.pretrain_options,
            settings=settings,
            data=data,
            weights=None,
            keep_checkpoints=True,
        )
        folder = _folder_of(self.experiment.work_dir / 'pretrain', f'{slug(entry.name)}_{identity}', identity)
        return self.pretrainings.setdefault(identity, Job(identity, folder, record, cfg))


def _folder_of(parent: Path, name: str, identity: str) -> Path:
    """Find the folder of an identity, whatever its encoder was called when it was made, or choose a new one."""
    return next(iter(sorted(parent.glob(f'*_{identity}'))), parent / name)


def _find_twins(jobs: Iterable[Job]) -> list[str]:
    """Tell of rows with the same numbers: a checkpoint may have been forgotten."""
    first: dict[str, Job] = {}
    sentences = []
    for job in jobs:
        other = first.setdefault(job.id, job)
        if other is not job:
            a, b = (f'{j.record.encoder!r} on {j.record.task!r}' for j in (other, job))
            sentences.append(f'{a} and {b} have the same settings, weights and data: leave one out.')
    return list(dict.fromkeys(sentences))


def _describe_mistake(who: str, reason: str, tasks: list[str]) -> str:
    where = f', task {", ".join(map(repr, tasks))}' if tasks else ''
    return f'{who}{where}: {reason}'


def _value_of(job: Job, key: str) -> str:
    return _format(getattr(job.record, FILTERS[key]))


def _format(value: object) -> str:
    """Write a value of a record as users write it."""
    return f'{value:g}' if isinstance(value, float) else str(value)


def _format_duration(seconds: float) -> str:
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
