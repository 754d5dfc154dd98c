#!/usr/bin/env bash
# nodes.sh by torchrun: for clusters that start it anyway, and for what reads its logs. Give it, and
# change it, as that one.
set -euo pipefail
: "${MASTER_ADDR:?is to be the address of the first machine}"
: "${NODE_RANK:?is to be 0 on the first machine, 1 on the second, and so on}"

exec torchrun --nnodes "${NODES:-2}" --nproc-per-node "${GPUS:-8}" --node-rank "$NODE_RANK" \
  --master-addr "$MASTER_ADDR" --master-port "${MASTER_PORT:-29500}" \
  -m composer_dataagent train "$@"
