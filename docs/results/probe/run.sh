#!/usr/bin/env bash
# The study of docs/results/probe: what removing or relabelling suspects does to a head on a frozen encoder.
#
#     docs/results/probe/run.sh DATA OUT [SEEDS] [PART...]
#
# DATA holds CIFAR-10 with the human labels (`python -m harness data fetch cifar10n --data-dir DATA`). OUT receives the
# records; the same command continues after an interruption. SEEDS is 10 unless given. The parts are noise, paper, hidden,
# pixels, noisy100, anchors and dear; all of them unless some are named. On two idle cores, one seed of one kind of noise
# takes about four minutes in the part `noise` and five minutes in the part `dear`.
set -euo pipefail
data=$1 out=$2 seeds=${3:-10}
parts=("${@:4}")
[ ${#parts[@]} -gt 0 ] || parts=(noise paper hidden pixels noisy100 anchors dear)

# Not among the methods: those that solve one system of 12,810 unknowns for each of 50,000 samples (relat_if,
# self_influence, self_lissa), local outlier factors in 12,810 dimensions, and 50,001 retrainings (leave_one_out).
dear='lissa,relation_graph,data_oob,knn_labels,knn_shapley'
light="all,oracle,-relat_if,-self_influence,-self_lissa,-outlier,-leave_one_out,-${dear//,/,-}"

# Fixed budgets, then half the share of wrong labels, that share, and 1.5 times that share. Relabelling: 5 % and the share.
worst='noise=worst,budget=0.025|0.05|0.075|0.1|0.125|0.2|0.4|0.6'
aggregate='noise=aggregate,budget=0.025|0.045|0.05|0.075|0.09|0.1|0.125|0.135'
random='noise=random,budget=0.025|0.05|0.075|0.085|0.1|0.125|0.17|0.26'

run() {
    python -m harness run --data-dir "$data" --out "$out" --seeds "$seeds" --preset probe "$@"
}

noise() {
    run --methods "$light" --tasks "cifar10n[$worst],cifar10n[noise=worst,budget=0.05|0.4,repair=relabel]"
    run --methods "$light" --tasks "cifar10n[$aggregate],cifar10n[noise=aggregate,budget=0.05|0.09,repair=relabel]"
    run --methods "$light" --tasks "cifar10n[$random],cifar10n[noise=random,budget=0.05|0.17,repair=relabel]"
}

paper() { # what the published code did: reference set, signs and labels as there
    run --protocol paper --methods "$light" --tasks 'cifar10n[noise=worst,budget=0.05|0.2|0.4]'
}

hidden() { # a head with a hidden layer: the problem is no longer convex
    run --tasks 'cifar10n[noise=worst,budget=0.05|0.2|0.4,width=256]' --methods \
        'oracle,random,none,self_confidence,normalized_margin,aum,outlier_l2,datainf,exact_hessian,clean_probe,confident_learning'
}

pixels() { # another size of the images
    run --methods "$light" --tasks 'cifar10n[noise=worst,budget=0.05|0.2|0.4,pixels=96]'
}

noisy100() { # for a shortened CIFAR-100, say how many images there are: CIFAR100=,n_train=5000,n_test=1000,n_validation=500
    run --methods "$light" --tasks "cifar100n[budget=0.05|0.2|0.4${CIFAR100:-}]"
}

dear() { # the methods whose scores take more than half a minute
    run --methods "$dear" --tasks "cifar10n[$worst]"
    run --methods "$dear" --tasks "cifar10n[$aggregate]"
    run --methods "$dear" --tasks "cifar10n[$random]"
}

anchors() { # out-of-sample probabilities of fine-tuned networks, if DATA has them, as the scores
    [ -d "$data/cifar10n_pred_probs" ] || { echo "no folder $data/cifar10n_pred_probs: the part anchors is left out"; return; }
    local methods='none,random,oracle,self_confidence,normalized_margin,confidence_weighted_entropy'
    methods="$methods,argmax_disagrees[probs=in_sample],confident_learning[probs=in_sample]"
    mkdir -p "$out-anchors"
    python "$(dirname "$0")/anchors.py" "$data" "$out-anchors/arrays"
    for file in "$out-anchors/arrays"/*.npz; do
        case $(basename "$file") in worst*) budgets='0.05|0.1|0.2|0.4|0.6' ;; *) budgets='0.025|0.05|0.09|0.125' ;; esac
        python -m harness run --data-dir "$data" --out "$out-anchors" --seeds 1 --methods "$methods" \
            --tasks "arrays[path=$file,model=probe,budget=$budgets]"
    done
}

for part in "${parts[@]}"; do
    "$part"
done
