#!/usr/bin/env bash
# The study of docs/results/attribution: do attributions predict what retraining does?
#
#     docs/results/attribution/run.sh DATA OUT [SEEDS] [PART...]
#
# DATA holds CIFAR-10, the human labels and GLUE. OUT receives the records; the same command continues after an
# interruption. SEEDS is 5 unless given. The parts are small, detection, cifar and glue; all of them unless some are named.
set -euo pipefail
data=$1 out=$2 seeds=${3:-5}
parts=("${@:4}")
[ ${#parts[@]} -gt 0 ] || parts=(small detection cifar glue)

both='layers=last|all'
influence="exact_hessian[$both],exact_hessian[damping=penalty,$both],lissa[$both],datainf[$both]"
influence+=",datainf[damping=penalty,$both],ekfac_influence[$both],ekfac_influence[damping=penalty,$both]"
gradients="gradient_tracing[$both],gradient_tracing[similarity=cosine,$both],tracin_cp[$both],outlier_iforest"
gradients+=",trak[$both],trak[n_models=10,$both]"
features='representer,representation_similarity[signed=yes|no]'

run() {
    python -m harness run --data-dir "$data" --out "$out" --seeds "$seeds" "$@"
}

small() { # blobs are convex; the models of moons and digits are small networks
    run --methods "random,leave_one_out,datamodels[n_models=200|1000],$influence,$gradients,$features" \
        --tasks 'lds_blobs[budget=0.02|0.1],lds_moons[budget=0.02|0.1],lds_digits[budget=0.02|0.1]'
}

detection() { # how well the same methods, and their self-influences, find wrong labels on the same kinds of data
    run --tasks 'blobs[retrain=no],moons[retrain=no],digits[retrain=no]' --methods "random,leave_one_out,\
datamodels[n_models=200|1000],exact_hessian,exact_hessian[damping=penalty],lissa,datainf,ekfac_influence[$both],\
gradient_tracing,gradient_tracing[similarity=cosine],tracin_cp,trak[n_models=1|10],representer,\
representation_similarity,self_influence,self_lissa,self_datainf,ekfac_self_influence[$both],tracin_self,outlier_l2"
}

cifar() { # a convex head on a frozen encoder: the last layer is the whole model
    run --tasks 'lds_cifar[budget=0.02|0.1]' --methods "random,datamodels,$features,outlier_iforest,tracin_cp,trak,\
exact_hessian,exact_hessian[damping=penalty],lissa,lissa[damping=penalty],datainf,datainf[damping=penalty],\
ekfac_influence[layers=last],ekfac_influence[layers=last,damping=penalty],\
gradient_tracing,gradient_tracing[similarity=cosine]"
}

glue() { # adapters and head of a small encoder, which are trained by AdamW
    run --preset smoke --tasks 'lds_glue' \
        --methods "random,exact_hessian,lissa,datainf,gradient_tracing,gradient_tracing[similarity=cosine],tracin_cp,\
ekfac_influence,trak,outlier_iforest,$features"
}

for part in "${parts[@]}"; do "$part"; done
