#!/usr/bin/env bash
# Train under Slurm: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of tools/train.py]
# Environment: GPUS (tasks, 8), GPUS_PER_NODE (tasks and GPUs of a node, 8), CPUS_PER_TASK (5), SRUN_ARGS, PYTHON.
# For a partition without GPUs set CPU=1 (GPUS_PER_NODE then counts only tasks) or GPUS_PER_NODE=0 (Slurm spreads the tasks).
# The batch size of a config is per task. MASTER_ADDR and MASTER_PORT are chosen unless they are set.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

[ $# -ge 4 ] || refuse 'This takes four arguments: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of tools/train.py].'
need_file config "$3"
plan_srun "$1" "$2"
exec "${LAUNCH[@]}" "$ROOT/tools/train.py" "$3" --work-dir "$4" --launcher slurm "${@:5}"
