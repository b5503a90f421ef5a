#!/usr/bin/env bash
# The shards of a sweep as a Slurm array: task i of N runs shard i/N into a shared folder. A task that is
# preempted is requeued and goes on with the runs that are missing. docs/scenarios.md, "Sweeps".
#
#   sbatch --array=0-15 slurm.sh SCENARIO OUT --over pools.0.nodes=8,12,16,24 --seeds 10
#   sbatch --dependency=afterok:JOB --wrap "chalk-sim merge OUT"
#
# CHALK_SIM names the program where it is not on the path.
#SBATCH --job-name=chalk-sweep
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=chalk-sweep-%A-%a.log
set -euo pipefail
scenario=${1:?usage: sbatch --array=0-15 slurm.sh SCENARIO OUT --over KEY=VALUES ...}
out=${2:?usage: sbatch --array=0-15 slurm.sh SCENARIO OUT --over KEY=VALUES ...}
shift 2
: "${SLURM_ARRAY_TASK_ID:?expected an array job: sbatch --array=0-15}"
if [ "${SLURM_ARRAY_TASK_MIN:-0}" -ne 0 ] || [ "${SLURM_ARRAY_TASK_STEP:-1}" -ne 1 ]; then
  echo "slurm.sh: found an array that is not 0-N, expected such as --array=0-15" >&2
  exit 1
fi
exec "${CHALK_SIM:-chalk-sim}" sweep "$scenario" "$@" \
  --shard "$SLURM_ARRAY_TASK_ID/${SLURM_ARRAY_TASK_COUNT:?}" --parallel 1 --out "$out"
