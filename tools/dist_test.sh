#!/usr/bin/env bash
# Test in several processes: tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# The environment variables are those of tools/dist_train.sh.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

[ $# -ge 3 ] || refuse 'This takes a config, a checkpoint and a number of processes: tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py].'
need_file config "$1"
need_file checkpoint "$2"
plan_torchrun "$3"
exec "${LAUNCH[@]}" "$ROOT/tools/test.py" "$1" "$2" --launcher pytorch "${@:4}"
