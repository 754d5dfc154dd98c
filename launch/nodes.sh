#!/usr/bin/env bash
# Several machines, started by hand (or by pdsh, Ansible, ...): give this on each of them, with its
# own NODE_RANK; what follows is as for `composer-dataagent train`.
#
#   MASTER_ADDR=10.0.0.1 NODE_RANK=0 launch/nodes.sh yamls/imagenet_resnet50.yaml \
#     run_dir=/shared/runs/imagenet \
#     train_loader.dataset.local=/scratch/imagenet/train eval_loader.dataset.local=/scratch/imagenet/val
#
# Change: MASTER_ADDR to the machine of NODE_RANK 0; NODES, and GPUS to those of each machine; MASTER_PORT
# to one that is free there and open to the others. /shared stands for storage that all of them see,
# /scratch for a disk that each has of its own (README.md here says why).
set -euo pipefail
: "${MASTER_ADDR:?is to be the address of the first machine}"
: "${NODE_RANK:?is to be 0 on the first machine, 1 on the second, and so on}"
nodes=${NODES:-2} gpus=${GPUS:-8}

exec composer --nproc "$gpus" --world_size $((nodes * gpus)) --node_rank "$NODE_RANK" \
  --master_addr "$MASTER_ADDR" --master_port "${MASTER_PORT:-29500}" \
  -m composer_dataagent train "$@"
