"""Tell from the signs of life of all ranks whether one of them is silent, or all hang."""

from mae_toolkit.engine.time_limits import TimeLimits

END = 'end'


class Progress:
    """What is known of each rank, by the clock of whoever asks.

    A sign of life is ``'COUNT PROGRESS'``: a count that grows with each, and twice the number of the step, plus 1
    within it; or ``'end'`` of a rank whose training has ended.

    Args:
        limits: The time limits.
        first: Number of the first step.
    """

    def __init__(self, limits: TimeLimits, first: int) -> None:
        self.limits, self.first = limits, first
        self._now = 0.0
        self._beats: dict[int, tuple[str, float]] = {}  # last sign of life of each rank, and since when it stands
        self._slowest: int | None = None  # progress of the slowest rank
        self._since = 0.0
        self._longest = 0.0  # seconds of a step, but for the first, which compiles

    def update(self, beats: dict[int, str], now: float) -> None:
        """Take note of the last sign of life of each rank.

        Args:
            beats: The signs of life by rank.
            now: Seconds of a clock that never goes back.
        """
        self._now = now
        for rank, beat in beats.items():
            if rank not in self._beats or self._beats[rank][0] != beat:
                self._beats[rank] = beat, now
        active = self._find_active()
        slowest = min(active.values(), default=None)
        if slowest == self._slowest:
            return
        if self._slowest is not None and self._slowest % 2 and self._slowest // 2 > self.first:
            self._longest = max(self._longest, now - self._since)
        self._slowest, self._since = slowest, now

    def allow_silence(self, position: int) -> float:
        """Return the seconds without a sign of life after which a rank is lost.

        Args:
            position: Twice the number of its step, plus 1 within it.
        """
        is_started = position > 2 * self.first + 1
        return self.limits.silence if is_started else max(self.limits.silence, self.limits.start)

    def find_silent(self) -> tuple[int, str] | None:
        """Return the number and the fate of a rank that has given no sign of life for too long."""
        for rank, progress in self._find_active().items():
            silent = self._now - self._beats[rank][1]
            limit = self.allow_silence(progress)
            if silent > limit:
                return rank, f'has given no sign of life for {silent:.0f} s, and the limit is {limit:.0f} s'
        return None

    def find_hanging(self) -> tuple[int, str] | None:
        """Return the number and the fate of the first of the slowest ranks if it has not got on for too long."""
        if self._slowest is None:
            return None
        waited = self._now - self._since
        step, is_within = divmod(self._slowest, 2)
        if not is_within:
            name, limit, what = 'work_timeout', self.limits.work, f'has been between the steps {step} and {step + 1}'
        elif step == self.first:
            name, limit, what = 'start_timeout', self.limits.start, f'has been in its first step, {step + 1},'
        else:
            name, limit, what = 'timeout', self.limits.step + self._longest, f'has been in step {step + 1}'
        if waited <= limit:
            return None
        slowest = [rank for rank, progress in self._find_active().items() if progress == self._slowest]
        others = f' (and {len(slowest) - 1} more)' if len(slowest) > 1 else ''
        return slowest[0], f'{what} for {waited:.0f} s{others}; env_cfg.dist_cfg.{name} allows {limit:.0f} s'

    def _find_active(self) -> dict[int, int]:
        """Return the progress of each rank whose training has not ended."""
        return {rank: int(beat.split()[1]) for rank, (beat, _) in self._beats.items() if beat != END}
