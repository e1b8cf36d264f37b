#!/usr/bin/env bash
# Train in several processes: tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# Without GPUs, GPUS is the number of processes on the CPU. On several machines, run it on each with NNODES, NODE_RANK,
# MASTER_ADDR and PORT set. PYTHON names another Python. With MAX_RESTARTS=N, all processes of a training of which one
# has died or failed are started anew, up to N times, and go on from the last checkpoint.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

[ $# -ge 2 ] || refuse 'This takes a config and a number of processes: tools/dist_train.sh CONFIG GPUS [options of tools/train.py].'
need_file config "$1"
plan_torchrun "$2"
exec "${LAUNCH[@]}" "$ROOT/tools/train.py" "$1" --launcher pytorch "${@:3}"
