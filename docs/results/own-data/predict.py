"""What `find --compare` expects of its winner, beside what the winner finds, on data whose wrong labels are known.

    python docs/results/own-data/predict.py DATA [SEEDS] > table.csv

The data are those of compare.py in the same folder, without the rate 0.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pandas as pd
from compare import problems

from harness.finding.ask import find_errors

DETECTORS = (
    "self_confidence,normalized_margin,confidence_weighted_entropy,argmax_disagrees,aum,data_maps,knn_labels,"
    "relation_graph,outlier_l2,outlier_iforest,self_datainf"
)


def main(data: Path, seeds: int) -> None:
    rows = []
    for name, rate, seed, values, given, true, params in problems(data, range(seeds)):
        if rate == 0:
            continue
        start = time.perf_counter()
        found = find_errors(values, given, compare=DETECTORS, **params)
        assert found.compared is not None
        wrong = (given != true)[found.positions[: len(found.wrong)]]
        mean, low, high = found.compared.precision
        table = found.compared.table.set_index("method")["average_precision"]
        rows.append(
            {
                "data": name,
                "rate": round(rate, 3),
                "seed": seed,
                "winner": found.method,
                "average_precision": table.iloc[0],
                "self_confidence": table.get("self_confidence"),
                "detectors": len(table),
                "expected": mean,
                "low": low,
                "high": high,
                "suspects": len(found.wrong),
                "precision": float(wrong.mean()) if len(wrong) else None,
                "seconds": time.perf_counter() - start,
            }
        )
        print(rows[-1], file=sys.stderr)
    pd.DataFrame(rows).to_csv(sys.stdout, index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
