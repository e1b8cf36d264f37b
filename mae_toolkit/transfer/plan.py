"""What a table needs: its runs, what is done of them, and how long the rest takes."""

import fnmatch
from collections import Counter
from dataclasses import dataclass, field, replace
from statistics import mean

from mae_toolkit.errors import UserError
from mae_toolkit.registry import suggest
from mae_toolkit.transfer.configs import ConfigCache
from mae_toolkit.transfer.hashes import Files, digest, settings_hash
from mae_toolkit.transfer.job import DONE, JOB, RESULT, STATES, WEIGHTS, Job, read, slug

FILTERS = ('encoder', 'task', 'labels', 'seed')


@dataclass(frozen=True)
class Plan:
    """The runs of an experiment.

    Attributes:
        experiment (Experiment): What was asked for.
        configs (ConfigCache): The configs that were read.
        jobs (list[Job]): Its runs, task by task, in the order of the YAML.
        mistakes (list[str]): Why some runs are not among them.
        others (list[Path]): Folders of runs of other settings.
    """

    experiment: object
    configs: ConfigCache
    jobs: list[Job]
    mistakes: list[str] = field(default_factory=list)
    others: list = field(default_factory=list)

    def only(self, filters):
        """The plan with the runs alone that fit all filters.

        Args:
            filters (list[str]): ``encoder=…``, ``task=…``, ``labels=…`` or ``seed=…``, with ``*`` for anything; of one
                key any may fit.

        Raises:
            UserError: If a filter is none, or no run fits it.
        """
        wanted = {}
        for text in filters:
            key, _, value = text.partition('=')
            known = sorted({str_of(job.record[key]) for job in self.jobs}) if key in FILTERS else []
            if key not in FILTERS:
                raise UserError(f'--only {text}: give KEY=VALUE, with one of the keys {", ".join(FILTERS)}.')
            value = str_of(float(value)) if key == 'labels' and _is_float(value) else value
            fitting = [name for name in known if name == value] or fnmatch.filter(known, value)
            if not fitting:
                raise UserError(f'--only {text}: there is no such {key}{suggest(value, known)}')
            wanted.setdefault(key, set()).update(fitting)
        kept = [job for job in self.jobs if all(str_of(job.record[key]) in wanted[key] for key in wanted)]
        return replace(self, jobs=kept)

    def todo(self, queued=()):
        """Jobs that are not done, each pretraining before the runs that need it."""
        found = []
        for job in self.jobs:
            if job.state(queued) == DONE:
                continue
            if job.needs is not None and job.needs not in found and job.needs.state(queued) != DONE:
                found.append(job.needs)
            found.append(job)
        return sorted(found, key=lambda job: job.record['kind'] == 'run')

    def times(self):
        """Mean seconds of the finished runs that were not interrupted, by task, and by task and encoder."""
        found = {}
        for job in self.jobs:
            result = job.result()
            if result is not None and not result['resumed']:
                for key in (job.record['task'], (job.record['task'], job.record['encoder'])):
                    found.setdefault(key, []).append(result['seconds'])
        return {key: mean(values) for key, values in found.items()}

    def remaining(self, jobs, workers=1):
        """The time that jobs take, by the finished ones of the task and encoder, else of the task, as text."""
        times = self.times()
        keys = [(job.record['task'] or 'pretraining', job.record['encoder']) for job in jobs]
        taken = [times.get(key, times.get(key[0])) for key in keys]
        unknown = sorted({task for (task, _), time in zip(keys, taken, strict=True) if time is None})
        known = [time for time in taken if time is not None]
        total = max([sum(known) / workers, *known])
        if not unknown:
            return f'about {duration(total)}'
        rest = f'unknown for {", ".join(unknown)} until one run of it has finished'
        return f'more than {duration(total)}; {rest}' if known else rest


def make_plan(experiment):
    """Find the runs of an experiment, and what is wrong with its configs."""
    configs, files, jobs, wrong = ConfigCache(experiment), Files(), [], {}
    tasks = [task for task in experiment.tasks if _is_right(wrong, f'task {task.name!r}', configs.task, task)]
    encoders = [s for s in experiment.encoders if _is_right(wrong, f'encoder {s.name!r}', configs.encoder, s)]
    pretrainings = {}
    for task in tasks:
        for source in encoders:
            try:
                needs = _pretraining(experiment, configs, files, source) if source.pretrain else None
                needs = needs and pretrainings.setdefault(needs.id, needs)  # several encoders may share one
                jobs += [
                    _run(experiment, configs, files, source, task, share, seed, needs)
                    for share in experiment.labels
                    for seed in experiment.seeds
                ]
            except UserError as error:
                wrong.setdefault((f'encoder {source.name!r}', str(error)), []).append(task.name)
    mistakes = [_about(who, reason, names) for (who, reason), names in wrong.items()]
    _refuse_twins(jobs, mistakes)
    ids = {job.id for job in jobs}
    known = sorted(experiment.work_dir.glob(f'runs/*/{JOB}'))
    others = [path.parent for path in known if (path.parent / RESULT).is_file() and read(path)['id'] not in ids]
    return Plan(experiment, configs, jobs, mistakes, others)


def overview(plan, queued=(), workers=1):
    """The plan in lines: counts per encoder and task, and the time of what is missing."""
    counts = {}
    for job in plan.jobs:
        counts.setdefault((job.record['task'], job.record['encoder']), Counter())[job.state(queued)] += 1
    wide = max([len(encoder) for _, encoder in counts] + [7])
    long = max([len(task) for task, _ in counts] + [4])
    states = [state for state in STATES if state in (DONE, 'missing') or any(c[state] for c in counts.values())]
    lines = [f'{"task":{long}}  {"encoder":{wide}}' + ''.join(f'{state:>9}' for state in states)]
    for (task, encoder), found in counts.items():
        lines.append(f'{task:{long}}  {encoder:{wide}}' + ''.join(f'{found[state] or "":>9}' for state in states))
    for job in dict.fromkeys(job.needs for job in plan.jobs if job.needs):
        lines.append(f'pretraining of {job.record["encoder"]}: {job.state(queued)}')
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


def duration(seconds):
    """Seconds as text."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'


def str_of(value):
    """A value of a record as users write it."""
    return f'{value:g}' if isinstance(value, float) else str(value)


def _run(experiment, configs, files, source, task, share, seed, needs):
    path = str(needs.folder / WEIGHTS) if needs else source.checkpoint
    cfg = configs.run(source, task, share, seed, path)
    sha256 = None if needs or path is None else files.content(path)
    settings, data = settings_hash(cfg, path), files.data(cfg)
    origin = f'pretraining {needs.id}' if needs else sha256
    identity = digest([settings, share, seed, origin, sorted(data.items())])[:12]
    encoder = configs.encoder(source)
    record = {
        'kind': 'run',
        'id': identity,
        'task': task.name,
        'encoder': source.name,
        'labels': share,
        'seed': seed,
        'family': source.family or f'{encoder.get("type")} {encoder.get("arch", "")}'.strip(),
        'pretrained': source.pretrained,
        'config': task.config,
        'options': experiment.options(source, task),
        'asked': [metric.key for metric in task.metrics],
        'settings': settings,
        'data': data,
        'weights': {'path': path, 'sha256': sha256} if path else None,
        'pretraining': {'id': needs.id, 'config': source.pretrain, 'settings': needs.record['settings']}
        if needs
        else None,
        'keep_checkpoints': experiment.keep_checkpoints,
    }
    name = '_'.join(map(slug, (task.name, source.name, f'{share:g}', seed, identity)))
    return Job(identity, _folder(experiment.work_dir / 'runs', name, identity), record, cfg, needs)


def _pretraining(experiment, configs, files, source):
    cfg = configs.pretraining(source)
    settings, data = settings_hash(cfg), files.data(cfg)
    identity = digest([settings, sorted(data.items())])[:12]
    record = {
        'kind': 'pretraining',
        'id': identity,
        'task': None,
        'encoder': source.name,
        'config': source.pretrain,
        'options': source.pretrain_options,
        'settings': settings,
        'data': data,
        'weights': None,
        'keep_checkpoints': True,
    }
    name = f'{slug(source.name)}_{identity}'
    return Job(identity, _folder(experiment.work_dir / 'pretrain', name, identity), record, cfg)


def _folder(parent, name, identity):
    """The folder of an identity: that which it has, whatever its encoder was called then, or a new one."""
    return next(iter(sorted(parent.glob(f'*_{identity}'))), parent / name)


def _refuse_twins(jobs, mistakes):
    """Two rows of the same numbers are a mistake: a checkpoint may have been forgotten."""
    first = {}
    for job in jobs:
        other = first.setdefault(job.id, job)
        if other is not job:
            a, b = (f'{j.record["encoder"]!r} on {j.record["task"]!r}' for j in (other, job))
            sentence = f'{a} and {b} have the same settings, weights and data: leave one out.'
            mistakes += [] if sentence in mistakes else [sentence]


def _is_right(wrong, who, read, part):
    """Whether a part can be read; else that is noted."""
    try:
        read(part)
    except UserError as error:
        wrong[who, str(error)] = []
        return False
    return True


def _about(who, reason, tasks):
    where = f', task {", ".join(map(repr, tasks))}' if tasks else ''
    return f'{who}{where}: {reason}'


def _is_float(text):
    try:
        float(text)
    except ValueError:
        return False
    return True
