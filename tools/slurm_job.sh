#!/usr/bin/env bash
# The job of a training, which slurm_train.sh submits with BATCH=1: sbatch [options] tools/slurm_job.sh RUNS COMMAND
# RUNS is the number of runs, each followed by its work directory, config and seed (or -); the number of an array's task
# chooses one. COMMAND trains it: its words, to which the config and the options of the run are added, and further
# options behind "--".
#
# A training that was told to stop (status 85), and one of which a process was killed or was lost (86, and above 128),
# is queued again under the same number. Any other failure ends the job; the process that failed leaves a note, as srun
# then kills the others and ends with their status.
set -uo pipefail

refuse() { # SENTENCE
    echo "error: $1" >&2
    exit 2
}

[ -n "${SLURM_JOB_ID:-}" ] && [ $# -ge 5 ] ||
    refuse 'This is the script of a job: sbatch [options] tools/slurm_job.sh RUNS [WORK_DIR CONFIG SEED]... COMMAND -- [options of tools/train.py].'

count=$1 chosen=${SLURM_ARRAY_TASK_ID:-0}
work_dir=${*:2+3*chosen:1} config=${*:3+3*chosen:1} seed=${*:4+3*chosen:1}
shift $((1 + 3 * count))
command=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    command+=("$1")
    shift
done
shift
command+=("$config" --work-dir "$work_dir" --launcher slurm --resume "$@")
[ "$seed" = - ] || command+=(--cfg-options "randomness.seed=$seed")

job=$SLURM_JOB_ID
[ -z "${SLURM_ARRAY_TASK_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
mkdir -p "$work_dir"
begun=$work_dir/.begun # as old as this start of the job
touch "$begun"
echo "$(date '+%F %T') job $job, start $((${SLURM_RESTART_COUNT:-0} + 1)) on $SLURM_JOB_NODELIST: $work_dir"
export FAILURE_NOTE=$work_dir/.failure_${SLURM_JOB_ID}_${SLURM_RESTART_COUNT:-0} # a new name, as NFS remembers what was not there
srun --kill-on-bad-exit=1 ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} "${command[@]}"
status=$?
failure=$(cat "$FAILURE_NOTE" 2>/dev/null)
rm -f "$FAILURE_NOTE"
[ $status = 85 ] || [ $status = 86 ] || [ $status -gt 128 ] || exit $status
if [ $status != 85 ] && [ -n "$failure" ]; then
    echo "$(date '+%F %T') job $job is not queued again, as it would fail again: $failure" >&2
    exit 1
fi

# The training itself refuses to go on if it was queued again in vain; here count the starts that did not get so far.
failed=0
if [ ! "$work_dir/requeues.json" -nt "$begun" ]; then
    failed=$(($(cat "$work_dir/.failed_starts" 2>/dev/null || echo 0) + 1))
fi
echo "$failed" >"$work_dir/.failed_starts"
[ "$failed" -lt 3 ] || refuse "Job $job has ended with status $status before its first step, as the two times before: it is not queued again."

echo "$(date '+%F %T') job $job is queued again (status $status)."
scontrol requeue "$job" || refuse "Slurm did not queue job $job again: submit it anew, it goes on from its last checkpoint."
sleep 60 # until Slurm ends this script; if it ended by itself now, that could end the job for good
exit $status
