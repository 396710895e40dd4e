#!/usr/bin/env bash
# The study of docs/results/probe: what removing or relabelling suspects does to a head on a frozen encoder.
#
#     docs/results/probe/run.sh DATA OUT [SEEDS]
#
# DATA holds CIFAR-10 with the human labels (`python -m harness data fetch cifar10n --data-dir DATA`). OUT receives the
# records; the same command goes on where it was interrupted. SEEDS is 10 unless given. On two idle cores, one seed of one
# kind of noise takes about three minutes for the first methods and five for the dear ones.
set -euo pipefail
data=$1 out=$2 seeds=${3:-10}

# Not among the methods: those that solve one system of 12,810 unknowns for each of 50,000 samples (relat_if,
# self_influence, self_lissa), local outlier factors in 12,810 dimensions, and 50,001 retrainings (leave_one_out).
dear='lissa,relation_graph,data_oob,knn_labels,knn_shapley'
methods="all,oracle,-relat_if,-self_influence,-self_lissa,-outlier,-leave_one_out,-${dear//,/,-}"

run() {
    python -m harness run --data-dir "$data" --out "$out" --seeds "$seeds" --preset probe "$@"
}

# Fixed budgets, then half the share of wrong labels, that share, and 1.5 times that share.
run --methods "$methods" --tasks 'cifar10n[noise=worst,budget=0.025|0.05|0.075|0.1|0.125|0.2|0.4|0.6]'
run --methods "$methods" --tasks 'cifar10n[noise=aggregate,budget=0.025|0.045|0.05|0.075|0.09|0.1|0.125|0.135]'
run --methods "$methods" --tasks 'cifar10n[noise=random,budget=0.025|0.05|0.075|0.085|0.1|0.125|0.17|0.26]'

# The methods whose scores take more than half a minute.
run --methods "$dear" --tasks 'cifar10n[noise=worst,budget=0.025|0.05|0.075|0.1|0.125|0.2|0.4|0.6]'
run --methods "$dear" --tasks 'cifar10n[noise=aggregate,budget=0.025|0.045|0.05|0.075|0.09|0.1|0.125|0.135]'
run --methods "$dear" --tasks 'cifar10n[noise=random,budget=0.025|0.05|0.075|0.085|0.1|0.125|0.17|0.26]'

# Relabelling instead of removing, at 5 % and at the share of wrong labels.
run --methods "$methods" --tasks 'cifar10n[noise=worst,budget=0.05|0.4,repair=relabel]'
run --methods "$methods" --tasks 'cifar10n[noise=aggregate,budget=0.05|0.09,repair=relabel]'

# What the published code did: reference set, signs and labels as there.
run --protocol paper --methods "$methods" --tasks 'cifar10n[noise=worst,budget=0.05|0.4]'

# Another size of the images.
run --methods "$methods" --tasks 'cifar10n[noise=worst,budget=0.05|0.4,pixels=96]'

# Noisy100. For a shortened CIFAR-100, say how many images there are: CIFAR100=,n_train=5000,n_test=1000,n_validation=500
run --methods "$methods" --tasks "cifar100n[budget=0.05|0.2|0.4${CIFAR100:-}]"

# A hidden layer: the problem is no longer convex.
few='oracle,random,none,self_confidence,normalized_margin,aum,outlier_l2,datainf,exact_hessian,clean_probe,knn_labels,confident_learning'
run --methods "$few" --tasks 'cifar10n[noise=worst,budget=0.05|0.4,width=256]'

# Outside anchors: out-of-sample probabilities of fine-tuned networks, if DATA has them, as the scores.
anchors='none,random,oracle,self_confidence,normalized_margin,confidence_weighted_entropy,argmax_disagrees[probs=in_sample]'
anchors="$anchors,confident_learning[probs=in_sample]"
if [ -d "$data/cifar10n_pred_probs" ]; then
    folder=$(mktemp -d)
    python "$(dirname "$0")/anchors.py" "$data" "$folder"
    for file in "$folder"/*.npz; do
        case $(basename "$file") in worst*) budgets='0.05|0.1|0.2|0.4|0.6' ;; *) budgets='0.025|0.05|0.09|0.125' ;; esac
        python -m harness run --data-dir "$data" --out "$out-anchors" --seeds 1 --methods "$anchors" \
            --tasks "arrays[path=$file,model=probe,budget=$budgets]"
    done
fi
