"""Kill trainings at random moments, start them again until they end, and compare their weights with an undisturbed run.

    python tests/kill_runs.py --kills 30 --seed 0

Each trial trains a tiny model with two data workers per process: in two gloo processes under torchrun's agent, with and
without restarts by it, or in a single one. SIGKILL hits a data worker, a rank or the launcher: within a step, while a
checkpoint is written, or while a run resumes. A run that has ended before its time is started again with ``resume``,
until it is through. Weights, averaged weights and the optimizer of the last checkpoint have to equal those of the
undisturbed run bit for bit. All processes are forks of this one, which has imported everything.
"""

import argparse
import functools
import itertools
import mmap
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from mmengine.hooks import Hook
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from engine_toys import ToyImages, loader, make_runner
from mae_toolkit.checkpoints.files import load, newest_checkpoint
from mae_toolkit.engine.distributed import count_restarts, init_distributed
from mae_toolkit.engine.locks import reserve_work_dir
from mae_toolkit.registry import HOOKS

STEPS, SAVE_EVERY, IMAGES = 24, 4, 24
STEP_SECONDS, FSYNC_SECONDS = 0.03, 0.03  # a step that takes a while, and a disk that does
PATIENCE = 300  # seconds for anything to happen
STARTING, STEPPING, SAVING = range(3)
MODES = {'torchrun': (2, 0), 'restarts': (2, 3), 'single': (1, 0)}  # processes, and restarts by the agent
TARGETS = {'torchrun': ('worker', 'rank', 'launcher'), 'restarts': ('worker', 'rank'), 'single': ('worker', 'rank')}
MOMENTS = 'step', 'save', 'resume'


class State:
    """What the first rank is doing, in memory that all forks share: a phase, the iteration, and how often it began."""

    def __init__(self):
        self.bytes = mmap.mmap(-1, 3)

    def begin(self):
        self.bytes[2] += 1
        self.set(STARTING, 0)

    def began(self):
        return self.bytes[2]

    def set(self, phase=None, iteration=None):
        self.bytes[0] = self.bytes[0] if phase is None else phase
        self.bytes[1] = self.bytes[1] if iteration is None else iteration

    def get(self):
        return self.bytes[0], self.bytes[1]


@HOOKS.register_module(force=True)
class StateHook(Hook):
    """Tells the state of the first rank, and makes steps last."""

    priority = 'LOWEST'

    def __init__(self, state):
        self.state = state

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.rank == 0:
            self.state.set(STEPPING, runner.iter)
        time.sleep(STEP_SECONDS)


class Trial(NamedTuple):
    """One kill."""

    mode: str
    target: str
    moment: str
    iteration: int  # from which on it comes
    delay: float  # seconds later
    rank: int


class Result(NamedTuple):
    """What came of a kill."""

    trial: Trial
    is_equal: bool
    launches: int
    seconds: float  # from the kill to the end of all processes of the job, or to its restart


def train(folder, state, resume):
    """Be one process of a run."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # a fork has the handlers of torchrun's agent
    torch.set_num_threads(1)
    pair = int(os.environ.get('WORLD_SIZE', 1)) > 1
    if int(os.environ.get('RANK', 0)) == 0:
        state.begin()
        os.fsync = lambda descriptor: _sync(state)
    launcher = 'pytorch' if pair else 'none'
    init_distributed(launcher, None, folder)
    with ExitStack() as stack:
        if int(os.environ.get('RANK', 0)) == 0:
            stack.enter_context(reserve_work_dir(folder))
        make_runner(
            folder,
            hooks=[{'type': 'StateHook', 'state': state}, {'type': 'EMAHook'}],
            epochs=STEPS * 2 * (1 + pair) // IMAGES,
            checkpoint={'interval': SAVE_EVERY, 'by_epoch': False, 'max_keep_ckpts': 2},
            resume='auto' if resume or count_restarts(os.environ) else False,
            train_dataloader=loader(ToyImages(IMAGES), num_workers=2, persistent_workers=True),
            launcher=launcher,
            experiment_name=f'killed-{uuid.uuid4().hex}',
        ).train()


def _sync(state):
    before = state.get()[0]
    state.set(SAVING)
    time.sleep(FSYNC_SECONDS)
    state.set(before)


def launch(mode, folder, state, resume):
    """Start a run in a process group of its own; returns the process."""
    state.set(STARTING, 0)
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setpgid(0, 0)
        with open(folder.with_suffix('.log'), 'a') as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        processes, restarts = MODES[mode]
        if processes == 1:
            train(folder, state, resume)
        else:
            config = LaunchConfig(
                1, 1, processes, run_id=uuid.uuid4().hex, rdzv_backend='c10d', rdzv_endpoint='localhost:0',
                max_restarts=restarts, monitor_interval=0.1, start_method='fork',
                logs_specs=DefaultLogsSpecs(redirects=Std.NONE),
            )  # fmt: skip
            elastic_launch(config, train)(folder, state, resume)
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def find_members(group):
    """The processes of a group that run."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return members


def find_victim(mode, launched, trial, since):
    """The process that a trial kills, started after a time: None as long as there is none."""
    try:
        root = psutil.Process(launched)
        ranks = [root] if mode == 'single' else sorted(root.children(), key=lambda child: child.pid)
        if trial.target == 'launcher':
            return root
        ranks = [rank for rank in ranks if mode == 'single' or rank.create_time() > since]
        if len(ranks) < MODES[mode][0]:
            return None
        rank = ranks[trial.rank % len(ranks)]
        if trial.target == 'rank':
            return rank
        workers = rank.children()
        return workers[trial.iteration % len(workers)] if workers else None
    except psutil.NoSuchProcess:
        return None


def wait_for(condition, pause=0.002):
    """Wait until a condition holds, and return its value."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError('What has to come has not come.')
        time.sleep(pause)
    return value


def is_over(launched):
    """Whether a run has ended; its status remains."""
    return os.waitid(os.P_PID, launched, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def is_over_or_stepping(launched, state, before):
    """Whether a run has ended, or its first rank has begun again and come to a step."""
    return is_over(launched) or (state.began() > before and state.get()[0] != STARTING)


def kill(launched, trial, state, kills, now):
    """Kill what a trial says when it says; return the moment, or None if the run had ended before."""

    def is_time():
        phase, iteration = state.get()
        if trial.moment == 'resume' and kills:
            return True
        return phase == (SAVING if trial.moment == 'save' else STEPPING) and iteration >= trial.iteration

    wait_for(lambda: is_over(launched) or is_time())
    time.sleep(trial.delay * (20 if trial.moment == 'resume' and kills else 1))
    victim = wait_for(lambda: is_over(launched) or find_victim(trial.mode, launched, trial, now if kills else 0.0))
    if victim is True:
        return None
    victim.kill()
    return time.monotonic()


def end_of(launched):
    """Wait until all processes of a run have ended; its status."""
    wait_for(lambda: is_over(launched), 0.02)
    wait_for(lambda: not find_members(launched), 0.05)
    return os.waitstatus_to_exitcode(os.waitpid(launched, 0)[1])


def run_trial(trial, folder, reference):
    """Train with one kill (two, if the second hits a resume), and compare."""
    state, seconds, kills = State(), [], 0
    wanted = 2 if trial.moment == 'resume' else 1
    for launches in itertools.count(1):
        if launches > 12:
            raise RuntimeError(f'{trial}: the run does not end; see {folder.with_suffix(".log")}')
        launched = launch(trial.mode, folder, state, launches > 1)
        killed = None
        while kills < wanted and (killed is None or trial.mode == 'restarts'):
            moment, before = kill(launched, trial, state, kills, time.time()), state.began()
            if moment is None:  # it was through before
                break
            killed, kills = moment, kills + 1
        if killed and trial.mode == 'restarts':
            wait_for(functools.partial(is_over_or_stepping, launched, state, before))
            seconds.append(time.monotonic() - killed)
        status = end_of(launched)
        if killed and trial.mode != 'restarts':
            seconds.append(time.monotonic() - killed)
        if status == 0:
            break
    return Result(trial, is_same(folder, reference), launches, max(seconds, default=0.0))


def is_same(folder, reference):
    """Whether the last checkpoint of a run equals that of the undisturbed one, bit for bit."""
    one, other = (load(newest_checkpoint(place)) for place in (folder, reference))
    if one['meta']['iter'] != STEPS or other['meta']['iter'] != STEPS:
        return False
    parts = 'state_dict', 'ema_state_dict', 'optimizer'
    return all(_are_equal(one[part], other[part]) for part in parts)


def _are_equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_are_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_are_equal, one, other))
    return one == other


def draw_trials(kills, seed):
    """Draw trials that take turns in mode, target and moment, at random iterations, moments and ranks."""
    draw = random.Random(seed)
    kinds = [(m, t, moment) for m in MODES for t in TARGETS[m] for moment in MOMENTS]
    draw.shuffle(kinds)
    for mode, target, moment in itertools.islice(itertools.cycle(kinds), kills):
        iteration = draw.randrange(1, STEPS - SAVE_EVERY)
        yield Trial(mode, target, moment, iteration, draw.uniform(0, STEP_SECONDS), draw.randrange(2))


def run_suite(trials, folder, report=print):
    """Run all trials; returns their results."""
    references = {}
    for mode in dict.fromkeys(trial.mode for trial in trials):
        processes = MODES[mode][0]
        if processes not in references:
            references[processes] = folder / f'undisturbed-{processes}'
            state = State()
            launched = launch(mode, references[processes], state, False)
            if end_of(launched):
                raise RuntimeError(references[processes].with_suffix('.log').read_text()[-3000:])
    results = []
    report(f'{"mode":9} {"killed":9} {"during":7} {"iteration":>9} {"launches":>8} {"seconds":>7}  equal')
    for number, trial in enumerate(trials):
        result = run_trial(trial, folder / f'run-{number}', references[MODES[trial.mode][0]])
        results.append(result)
        columns = f'{trial.mode:9} {trial.target:9} {trial.moment:7} {trial.iteration:9} {result.launches:8}'
        report(f'{columns} {result.seconds:7.1f}  {"yes" if result.is_equal else "NO"}')
    return results


def summarize(results):
    """The last lines of the suite."""
    equal = sum(result.is_equal for result in results)
    yield f'{equal} of {len(results)} equal the undisturbed run bit for bit'
    for target in ('worker', 'rank', 'launcher'):
        seconds = [r.seconds for r in results if r.trial.target == target and r.trial.mode != 'restarts']
        if seconds:
            middle, most = statistics.median(seconds), max(seconds)
            yield f"seconds from a {target}'s death to the job's end: median {middle:.1f}, at most {most:.1f}"
    seconds = [r.seconds for r in results if r.trial.mode == 'restarts']
    if seconds:
        middle, most = statistics.median(seconds), max(seconds)
        yield f'seconds from a death to the first step after a restart: median {middle:.1f}, at most {most:.1f}'


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--kills', type=int, default=30, help='number of trials')
    parser.add_argument('--seed', type=int, default=0, help='seed of what is killed, and when')
    parser.add_argument('--keep', type=Path, help='a new folder for the runs and their logs, which stay')
    args = parser.parse_args()
    torch.set_num_threads(1)
    warm_up()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = args.keep or Path(folder) / 'runs'
        place.mkdir(parents=True)
        results = run_suite(list(draw_trials(args.kills, args.seed)), place)
    print('\n'.join(summarize(results)))
    print(f'{time.monotonic() - began:.0f} s in all')
    sys.exit(not all(result.is_equal for result in results))


def warm_up():
    """Do once what each process would do for itself: ask for the environment, import what configs are laid out with."""
    from mmengine.runner import runner

    from mae_toolkit.engine import _mmengine

    found = runner.collect_env()
    runner.collect_env = lambda: found
    _mmengine.import_yapf()
    sys.modules[_mmengine.YAPF].FormatCode = lambda text, **_: (text, True)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


if __name__ == '__main__':
    main()
