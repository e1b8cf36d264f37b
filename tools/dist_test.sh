#!/usr/bin/env bash
# Loss on held-out images with several processes: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]
# Without GPUs, GPUS is the number of processes. Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT.
set -euo pipefail
if [ $# -lt 3 ] || ! [[ $3 =~ ^[1-9][0-9]*$ ]]; then
    echo "error: usage: $0 CONFIG CHECKPOINT GPUS [arguments of test.py], GPUS being the processes on this machine" >&2
    exit 2
fi
config=$1 checkpoint=$2 gpus=$3
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
# One thread per process would be torchrun's choice where there is no GPU: share the cores instead.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(( ($(nproc) + gpus - 1) / gpus ))}
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" --nproc-per-node "$gpus" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}" \
    "$here/test.py" "$config" "$checkpoint" --launcher pytorch "${@:4}"
