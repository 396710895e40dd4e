#!/usr/bin/env bash
# The study of docs/results/prompts: class detection on the three original sets of prompts, whole, with SmolLM2-135M.
#
#     docs/results/prompts/run.sh DATA OUT [SEEDS]
#
# DATA holds the prompt sets in `prompts/`. The model is the folder SmolLM2-135M-Instruct in the working folder, or with
# MODEL=HuggingFaceTB/SmolLM2-135M-Instruct the hub's. OUT receives the records; the same command continues after an
# interruption. SEEDS is 3 unless given. One set with one seed takes half an hour on one core, beside other work.
set -euo pipefail
data=$1 out=$2 seeds=${3:-3}
size="model=${MODEL:-SmolLM2-135M-Instruct},weights=bfloat16,epochs=3,batch_size=8,precision=bfloat16"
last='layers=*.29.*' # of 30 layers; the same gradients as layers=last, taken from those of all layers
methods="random,gradient_tracing,gradient_tracing[$last],gradient_tracing[similarity=cosine]"
methods="$methods,gradient_tracing[class_mean=yes],datainf,datainf[$last],datainf[class_mean=yes]"
methods="$methods,exact_hessian"
methods="$methods,outlier_iforest[layers=all,projection=auto|none|256],outlier_iforest[$last,projection=auto|none|256]"

for ((seed = 1; seed <= seeds; seed++)); do # seed by seed, so that each is whole before the next begins
    for task in prompts_math prompts_math_reasoning prompts_sentences; do
        OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} python -m harness run --data-dir "$data" --out "$out" --seeds "$seed" \
            --preset fast --methods "$methods" --tasks "$task[prompts=files,$size,padding=no|yes]"
    done
done
