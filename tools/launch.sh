# shellcheck shell=bash
# What the launchers share; it is sourced, not run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-python}
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"

refuse() { # SENTENCE
    echo "error: $1" >&2
    exit 2
}

need_file() { # ROLE PATH
    [ -f "$2" ] || refuse "There is no $1 $2: name an existing file."
}

need_count() { # NAME VALUE LEAST
    [[ $2 =~ ^[0-9]+$ && $2 -ge $3 ]] || refuse "$1 must be a whole number of $3 or more, not '$2'."
}

need_program() { # PROGRAM REMEDY
    command -v "$1" >/dev/null || refuse "There is no program $1: $2."
}

# Sets LAUNCH, the command that starts GPUS processes on each of NNODES machines.
plan_torchrun() { # GPUS
    need_count 'The number of GPUS (processes on this machine)' "$1" 1
    need_count NNODES "${NNODES:-1}" 1
    need_count NODE_RANK "${NODE_RANK:-0}" 0
    [ "${NODE_RANK:-0}" -lt "${NNODES:-1}" ] ||
        refuse "NODE_RANK=${NODE_RANK:-0} is not below NNODES=${NNODES:-1}: count the machines from 0."
    need_count MAX_RESTARTS "${MAX_RESTARTS:-0}" 0
    need_program "$PYTHON" 'activate the environment, or name its Python by PYTHON=/path/to/python'
    LAUNCH=("$PYTHON" -m torch.distributed.run --nproc-per-node="$1")
    [ "${MAX_RESTARTS:-0}" = 0 ] || LAUNCH+=(--max-restarts="$MAX_RESTARTS")
    if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
        LAUNCH+=(--standalone) # a free port of its own, so that runs do not meet
        return
    fi
    [ "${NNODES:-1}" = 1 ] || [ -n "${MASTER_ADDR:-}" ] ||
        refuse "NNODES=$NNODES needs MASTER_ADDR, the address of the machine with NODE_RANK=0."
    LAUNCH+=(--nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}")
    LAUNCH+=(--master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}")
}

# Refuses a partition that Slurm does not have; several may be named with commas.
need_partition() { # PARTITION
    local known one
    known=$(sinfo --noheader --format=%R 2>/dev/null) || refuse 'Slurm does not answer to sinfo: is its controller up, and is this a login node?'
    for one in ${1//,/ }; do
        grep -qxF -- "$one" <<<"$known" ||
            refuse "Slurm has no partition $one; there are $(sort -u <<<"$known" | paste -sd, | sed 's/,/, /g')."
    done
}

# Sets RESOURCES, the options of srun or sbatch for GPUS tasks, each with one GPU unless GPUS_PER_NODE=0 or CPU=1; and
# LAUNCH, the srun command.
plan_srun() { # PARTITION JOB_NAME
    local gpus=${GPUS:-8} per_node=${GPUS_PER_NODE:-8} extra=()
    need_count GPUS "$gpus" 1
    need_count GPUS_PER_NODE "$per_node" 0
    need_count CPUS_PER_TASK "${CPUS_PER_TASK:-5}" 1
    need_program srun 'start this where Slurm is installed'
    need_program sinfo 'start this where Slurm is installed'
    need_partition "$1"
    [ "$per_node" -le "$gpus" ] || per_node=$gpus
    read -ra extra <<<"${SRUN_ARGS:-}"
    RESOURCES=(--partition="$1" --job-name="$2" --ntasks="$gpus" --cpus-per-task="${CPUS_PER_TASK:-5}")
    if [ "$per_node" -gt 0 ]; then
        RESOURCES+=(--ntasks-per-node="$per_node")
        [ "${CPU:-0}" = 1 ] || RESOURCES+=(--gres="gpu:$per_node")
    fi
    RESOURCES+=(${extra[@]+"${extra[@]}"})
    LAUNCH=(srun "${RESOURCES[@]}" --kill-on-bad-exit=1 "$PYTHON" -u)
}

# Prints how many seconds before its end a training must be told: LEAD, or what runs in these folders have measured.
find_lead() { # WORK_DIR...
    local folder found lead=0
    if [ -n "${LEAD:-}" ]; then
        need_count LEAD "$LEAD" 1
        echo "$LEAD"
        return
    fi
    for folder in "$@"; do
        found=$(sed -n 's/.*"lead_seconds": *\([0-9][0-9]*\).*/\1/p' "$folder/preemption.json" 2>/dev/null)
        [ "${found:-300}" -le "$lead" ] || lead=${found:-300}
    done
    echo "$lead"
}
