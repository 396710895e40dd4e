#!/usr/bin/env bash
# The pictures of docs/gallery: small runs, and one figure of each kind from them.
#
#     docs/gallery/make.sh DATA OUT
#
# DATA holds CIFAR-10 with its human labels, GLUE and the prompt sets (`python -m harness data list` names the files). OUT
# receives the records; the same command continues after an interruption. On two idle cores it takes about ten minutes.
set -euo pipefail
data=$1 out=$2
here=$(dirname "$0")
tabular='moons,moons[spread=0.2],moons[spread=0.3],blobs,digits,digits[n_train=300]'
some='none,random,oracle,clean_probe,self_confidence,normalized_margin,confident_learning,aum,knn_labels,outlier_l2'
some="$some,outlier_iforest,datainf,exact_hessian,ekfac_influence,self_influence,data_oob"

run() {
    python -m harness run --data-dir "$data" --out "$@"
}

run "$out/planes" --methods none,outlier_iforest,exact_hessian --tasks blobs,moons --seeds 1
run "$out/tabular" --methods "$some" --tasks "$tabular" --seeds 5
small='digits[n_train=300],moons[spread=0.3]'
run "$out/few" --methods "$some" --tasks "$small" --seeds 5
for protocol in fair paper; do
    run "$out/protocols" --methods "$some" --tasks "$small" --seeds 5 --protocol "$protocol"
done
alone='exact_hessian[reference=train],exact_hessian[sign=-1],exact_hessian[hessian=outer_product]'
alone="$alone,ekfac_influence[reference=train],ekfac_influence[sign=-1],datainf[reference=train],datainf[sign=-1]"
run "$out/protocols" --methods "$alone,self_confidence[labels=predicted]" --tasks "$small" --seeds 5
run "$out/protocols" --methods "$some" --tasks 'moons[spread=0.3,lr=0.001],moons[spread=0.3,steps=5000]' --seeds 5
run "$out/sweep" --methods "$some" --tasks 'digits[budget=0.025|0.05|0.1|0.15|0.2|0.3]' --seeds 5
run "$out/images" --methods outlier_iforest --tasks 'cifar10n[noise=worst]' --seeds 1 --preset smoke
run "$out/epochs" --methods none,random,outlier_l1,datainf,self_confidence --tasks glue_sst2,glue_mrpc --seeds 2 --preset smoke
run "$out/prompts" --methods random,datainf,gradient_tracing,outlier_iforest --tasks 'prompts_*' --seeds 1 --preset smoke

figure() { # folder, name, further options
    python -m harness report "$out/$1" --figure "$2" --data-dir "$data" --output "$here/$2.png" "${@:3}"
}

figure planes 1
figure images 2
figure epochs 3
figure prompts 4
figure sweep 5
figure few inspection
figure few precision-recall
figure few cost
figure few scores
figure few correlation
figure protocols protocols
figure tabular ranks
