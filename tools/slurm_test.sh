#!/usr/bin/env bash
# Test under Slurm: tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
# The environment variables are those of tools/slurm_train.sh.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

[ $# -ge 4 ] || refuse 'This takes four arguments: tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py].'
need_file config "$3"
need_file checkpoint "$4"
plan_srun "$1" "$2"
exec "${LAUNCH[@]}" "$ROOT/tools/test.py" "$3" "$4" --launcher slurm "${@:5}"
