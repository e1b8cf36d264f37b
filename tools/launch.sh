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

# Refuses a job for which the partition is too small, also with all its nodes; it would wait for ever. Of one that Slurm
# cannot start for another reason (nodes are drained, or an option of SRUN_ARGS) it only warns.
need_room() { # PARTITION TASKS TASKS_PER_NODE
    local said nodes cpus gres count need=1 each=1 total=0 most_cpus=0 most_gpus=0
    command -v sbatch >/dev/null || return 0
    said=$(sbatch --test-only "${RESOURCES[@]}" --wrap=true 2>&1 >/dev/null) && return 0
    [ "$3" = 0 ] || each=$3 need=$((($2 + $3 - 1) / $3))
    while read -r nodes cpus gres; do # a line for each kind of node
        count=0
        [[ ! $gres =~ gpu(:[^:,\(]+)?:([0-9]+) ]] || count=${BASH_REMATCH[2]}
        total=$((total + nodes))
        [ "${cpus%+}" -le $most_cpus ] || most_cpus=${cpus%+}
        [ "$count" -le $most_gpus ] || most_gpus=$count
    done < <(sinfo --noheader --partition="$1" --format='%D %c %G' 2>/dev/null)
    [ "$need" -le $total ] ||
        refuse "GPUS=$2 with GPUS_PER_NODE=$3 needs $need nodes, and partition $1 has $total: set fewer GPUS, or more GPUS_PER_NODE."
    cpus=$((each * ${CPUS_PER_TASK:-5}))
    [ $cpus -le $most_cpus ] ||
        refuse "$each tasks of CPUS_PER_TASK=${CPUS_PER_TASK:-5} need $cpus CPUs of a node, and those of partition $1 have $most_cpus at most: set CPUS_PER_TASK or GPUS_PER_NODE lower."
    [ "${CPU:-0}" = 1 ] || [ "$3" -le $most_gpus ] ||
        refuse "GPUS_PER_NODE=$3 takes more GPUs than a node of partition $1 has, $most_gpus at most: set it lower, or CPU=1 to train without."
    echo "warning: Slurm cannot start this job now: $said. It waits until that changes." >&2
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
    need_room "$1" "$gpus" "$per_node"
    LAUNCH=(srun "${RESOURCES[@]}" --kill-on-bad-exit=1 "$PYTHON" -u)
}

# Prints the seconds that SRUN_ARGS allows a job by --time or -t; nothing where it does not say.
find_time() {
    local first second third
    [[ " ${SRUN_ARGS:-} " =~ \ (--time=|--time\ +|-t\ *)([0-9]+-)?([0-9:]+)\  ]] || return 0
    IFS=: read -r first second third <<<"${BASH_REMATCH[3]}"
    if [ -n "${BASH_REMATCH[2]}" ]; then # days-hours:minutes:seconds
        echo $((10#${BASH_REMATCH[2]%-} * 86400 + 10#0$first * 3600 + 10#0$second * 60 + 10#0$third))
    elif [ -n "$third" ]; then
        echo $((10#0$first * 3600 + 10#0$second * 60 + 10#0$third))
    else
        echo $((10#0$first * 60 + 10#0$second))
    fi
}

# Refuses a job that would be told to stop as soon as it starts.
need_time() { # LEAD
    local time
    time=$(find_time)
    [ "${time:-0}" = 0 ] || [ "$1" -lt "$time" ] ||
        refuse "The job would be told to stop $1 s before its end, and has only $time s: give it more in SRUN_ARGS=--time=..., or set LEAD lower, to what a step and a checkpoint take."
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
