#!/usr/bin/env bash
# Pretrain on a Slurm cluster: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]
# Environment: GPUS (processes in all), GPUS_PER_NODE (0 on partitions without GPUs, where GPUS counts processes),
# TASKS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS. A run that was killed goes on with --resume as an argument.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "error: usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]" >&2
    exit 2
fi
partition=$1 job=$2 config=$3 work_dir=$4
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$(( gpus < 8 ? gpus : 8 ))}
tasks_per_node=${TASKS_PER_NODE:-$(( gpus_per_node > 0 ? gpus_per_node : gpus ))}
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
gres=()
[ "$gpus_per_node" -gt 0 ] && gres=("--gres=gpu:$gpus_per_node")
# shellcheck disable=SC2086  # SRUN_ARGS holds several arguments
exec srun -p "$partition" --job-name="$job" "${gres[@]}" \
    --ntasks="$gpus" --ntasks-per-node="$tasks_per_node" --cpus-per-task="${CPUS_PER_TASK:-8}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$here/train.py" "$config" --work-dir "$work_dir" --launcher slurm "${@:5}"
