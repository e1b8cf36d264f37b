#!/usr/bin/env bash
# Train under Slurm: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of tools/train.py]
# Environment: GPUS (tasks, 8), GPUS_PER_NODE (tasks and GPUs of a node, 8), CPUS_PER_TASK (5), SRUN_ARGS, PYTHON.
# For a partition without GPUs set CPU=1 (GPUS_PER_NODE then counts only tasks) or GPUS_PER_NODE=0 (Slurm spreads the tasks).
# The batch size of a config is per task. MASTER_ADDR and MASTER_PORT are chosen unless they are set.
#
# BATCH=1 submits a job with sbatch, which goes on by itself after a time limit, a preemption or a lost node. CONFIG may
# then be several, with commas, and SEEDS='0 1 2' several seeds: an array of jobs, each in a folder of WORK_DIR.
# Before, it checks what the training would refuse; CHECK=0 leaves that out. AFTER=JOB lets it begin once another job has
# ended well. LEAD sets how many seconds before its end it is told to stop.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

[ $# -ge 4 ] || refuse 'This takes four arguments: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of tools/train.py].'
configs=("$3")
[ "${BATCH:-0}" != 1 ] || IFS=, read -ra configs <<<"$3"
for config in "${configs[@]}"; do need_file config "$config"; done
plan_srun "$1" "$2"

if [ "${BATCH:-0}" != 1 ]; then
    [ -z "${SEEDS:-}${AFTER:-}" ] || refuse 'SEEDS and AFTER are for jobs: set BATCH=1.'
    lead=$(find_lead "$4")
    need_time "$lead"
    exec "${LAUNCH[@]:0:1}" --signal="USR1@$lead" "${LAUNCH[@]:1}" "$ROOT/tools/train.py" "$3" --work-dir "$4" --launcher slurm "${@:5}"
fi

need_program sbatch 'start this where Slurm is installed'
read -ra seeds <<<"${SEEDS:--}"
runs=() folders=()
for config in "${configs[@]}"; do
    for seed in "${seeds[@]}"; do
        [ "$seed" = - ] || need_count 'Each of SEEDS' "$seed" 0
        folder=$4
        [ ${#configs[@]} = 1 ] || folder+=/$(basename "$config" .py)
        [ "$seed" = - ] || folder+=/seed_$seed
        runs+=("$folder" "$config" "$seed") folders+=("$folder")
    done
done
if [ "${CHECK:-1}" = 1 ]; then # what the training would refuse, hours later
    for ((i = 0; i < ${#runs[@]}; i += 3)); do
        options=(--work-dir "${runs[i]}" --resume --check-for "${GPUS:-8}" "${@:5}")
        [ "${runs[i + 2]}" = - ] || options+=(--cfg-options "randomness.seed=${runs[i + 2]}")
        "$PYTHON" -u "$ROOT/tools/train.py" "${runs[i + 1]}" "${options[@]}" >&2 || exit
    done
fi
lead=$(find_lead "${folders[@]}")
need_time "$lead"
mkdir -p "$4"
options=("${RESOURCES[@]}" --requeue --open-mode=append --signal="USR1@$lead" --output="$4/slurm-%j.out")
[ ${#folders[@]} = 1 ] || options+=(--array="0-$((${#folders[@]} - 1))" --output="$4/slurm-%A_%a.out")
[ -z "${AFTER:-}" ] || options+=(--dependency="afterok:$AFTER" --kill-on-invalid-dep=yes)
exec sbatch "${options[@]}" "$ROOT/tools/slurm_job.sh" "${#folders[@]}" "${runs[@]}" "$PYTHON" -u "$ROOT/tools/train.py" -- "${@:5}"
