#!/bin/bash
# Training on several nodes without a scheduler: run this on each of them, with the same arguments.
#
#   MASTER=node0 NODES=2 experiments/cluster/torchrun.sh NAME experiments/paper/lingen_4b.yaml [FLAGS ...]
#
# MASTER is one of the nodes, reachable from the others on port 29500; all share the folder that they run in. torchrun
# ends all ranks when one fails; with --ckpt_path last behind the flags the same command goes on from the last checkpoint.
set -eu
name=$1
config=$2
shift 2
gpus=${GPUS:-8}

exec torchrun --nnodes "$NODES" --nproc-per-node "$gpus" --rdzv-backend c10d --rdzv-endpoint "$MASTER:29500" \
    --rdzv-id "$name" --max-restarts 0 -m lingen_kit fit --config "$config" --name "$name" \
    --trainer.num_nodes "$NODES" --trainer.devices "$gpus" --trainer.strategy fsdp2 "$@"
