#!/usr/bin/env python3
"""An epoch of `crossmodal align` on the CPU path beside the same recipe in float32 numpy, in turn on one machine.

    cargo build --release && python3 benches/epoch.py [--rounds 5]          needs numpy and safetensors

Both train 1280 -> 256 and 384 -> 256 heads on the emoji features in batches of 256, five steps an epoch, 40 epochs a run.
An epoch is its training alone, without validation. Prints the median epoch of every run and the ratio of the medians.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# The recipe of both.
RECIPE = ["--epochs", "40", "--scaling", "feature", "--dropout", "0"]
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "fixtures"))
import make_align_fixture as recipe  # noqa: E402


def numpy_epoch(x, y, train):
    """The median epoch of one run in numpy, in milliseconds."""
    rng = np.random.default_rng(0)
    p = {k: a.astype("f4") for k, a in recipe.initial_parameters(rng, x.shape[1], y.shape[1]).items()}
    optimiser, steps = recipe.AdamW(p), len(train) // recipe.RECIPE["batch"]
    total, times = steps * recipe.RECIPE["epochs"], []
    for _ in range(recipe.RECIPE["epochs"]):
        start = time.perf_counter()
        order = rng.permutation(train)[: steps * recipe.RECIPE["batch"]]
        for rows in order.reshape(steps, -1):
            _, gradient = recipe.loss_and_gradient(p, x[rows], y[rows])
            optimiser.update(p, gradient, recipe.learning_rate(optimiser.steps, total))
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def crossmodal_epoch(binary):
    """The median epoch of one run of the command line, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        subprocess.run([binary, "align", "--device", "cpu", "--out", out, *RECIPE], cwd=ROOT, check=True, capture_output=True)
        return 1e3 * json.loads((out / "metrics.json").read_text())["seconds_per_epoch"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    recipe.RECIPE.update(dim=256, epochs=40)
    x, y, train = recipe.load_features(ROOT / "data" / "emoji.safetensors")
    binary = ROOT / "target" / "release" / "crossmodal"
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(crossmodal_epoch(binary))
        theirs.append(numpy_epoch(x, y, train))
        print(f"crossmodal {ours[-1]:6.1f} ms    numpy {theirs[-1]:6.1f} ms", flush=True)
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"medians    {statistics.median(ours):6.1f} ms          {statistics.median(theirs):6.1f} ms    ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
