#!/usr/bin/env python3
"""The shapes of shapes.json on PyTorch and on numpy: one line of JSON a measurement, written at once.

Each time is the wall clock from the call until one value of each result is on the host, as in the Rust binary beside this
file; the median of several calls, the first call apart. What matters most comes first, and no measurement is begun that the
budget has no time for: a run that is cut off keeps the lines it has written.

    python3 peers.py --out results.jsonl --budget-seconds 80
"""

import argparse
import importlib
import json
import math
import os
import statistics
import sys
import time
from contextlib import nullcontext

START = time.monotonic()
SHAPES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shapes.json")
PEERS = ("torch", "numpy")
# What the first call of a compiled function may take: none is begun with less time left.
COMPILE_SECONDS = 25.0


def main():
    options = arguments()
    shapes = chosen_shapes(options)
    peers = open_peers(options)
    if not peers:
        sys.exit("peers.py: expected PyTorch or numpy to be importable; found neither")
    in_order = sorted(tasks(peers, shapes, options), key=lambda task: task[:3])
    with open(options.out, "w", encoding="utf-8") if options.out else nullcontext(sys.stdout) as out:
        for peer in peers:
            write(out, {"about": peer.about()})
        for *_, peer, shape, variant in in_order:
            row = {"peer": peer.NAME, "variant": variant, "shape": shape["name"]}
            write(out, row | outcome(peer, shape, variant, options))


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FILE", help="where the lines go; standard output if not given")
    parser.add_argument("--budget-seconds", type=float, default=600.0, metavar="N",
                        help="begin no measurement after this long, imports included (default: %(default)s)")
    parser.add_argument("--only", metavar="OPS", help="some of matmul,attention,info_nce")
    parser.add_argument("--shape", action="append", metavar="PART",
                        help="only shapes with this in their name; may be repeated")
    parser.add_argument("--peer", choices=PEERS, help="only this one; numpy is left out where PyTorch has a GPU")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True,
                        help="also measure torch.compile of the loss (default: yes)")
    parser.add_argument("--rate", type=float, metavar="GFLOP/S",
                        help="what the device is taken to do, to leave out shapes (default: 10000 on a GPU, 20 on a CPU)")
    parser.add_argument("--limit", type=float, default=2.0, metavar="S",
                        help="leave out shapes that would take longer a call at that rate (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S",
                        help="how long a measurement repeats its calls (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="PyTorch on the CPU even where it has a GPU")
    return parser.parse_args()


def chosen_shapes(options):
    with open(SHAPES, encoding="utf-8") as file:
        shapes = json.load(file)
    if options.only:
        wanted = options.only.split(",")
        unknown = set(wanted) - {shape["op"] for shape in shapes}
        if unknown:
            sys.exit(f"peers.py: --only: expected some of matmul,attention,info_nce; got {','.join(sorted(unknown))}")
        shapes = [shape for shape in shapes if shape["op"] in wanted]
    if options.shape:
        shapes = [shape for shape in shapes if any(part in shape["name"] for part in options.shape)]
    return shapes


def open_peers(options):
    """The peers that are installed. numpy beside a GPU would spend its time."""
    found = []
    for name in PEERS:
        if options.peer not in (None, name) or (name == "numpy" and any(peer.on_gpu for peer in found)):
            continue
        try:
            found.append(importlib.import_module(f"with_{name}").Peer(options))
        except ImportError as error:
            print(f"peers.py: without {name}: {error}", file=sys.stderr)
    return found


def tasks(peers, shapes, options):
    """Priority, rank of the variant, place in the file: the order to measure in."""
    for peer in peers:
        for place, shape in enumerate(shapes):
            for rank, variant in enumerate(peer.variants(shape, options.compile)):
                # Compiling takes the time of thirty measurements: but for the first shapes it comes last.
                late = variant.startswith("compiled") and shape["priority"] > 1
                yield 9 if late else shape["priority"], rank, place, peer, shape, variant


def outcome(peer, shape, variant, options):
    """A measurement, or why there is none."""
    left = options.budget_seconds - (time.monotonic() - START)
    estimate = shape["gflop"] / (options.rate or peer.RATE[peer.on_gpu])
    if estimate > options.limit:
        return {"skipped": f"about {estimate:.1f} s a call at the rate assumed, more than {options.limit:g}"}
    if left < max(6 * estimate, COMPILE_SECONDS if variant.startswith("compiled") else 0):
        return {"skipped": f"the time budget of {options.budget_seconds:g} s"}
    needed, there = peer.least_bytes(shape, variant), peer.memory_bytes()
    if needed > there:
        return {"error": f"out of memory: needs at least {needed / 2**30:.1f} GiB, there are {there / 2**30:.1f}"}
    try:
        return measure(peer, shape, variant, options.seconds)
    except Exception as error:  # whatever a peer throws is its result here, and the next shape's turn comes
        word = "out of memory" if peer.is_out_of_memory(error) else type(error).__name__
        text = " ".join(str(error).split())[:200]
    finally:
        peer.release()
    return {"error": f"{word}: {text}"}


def measure(peer, shape, variant, seconds):
    peer.release()
    call = peer.prepare(shape, variant)
    peer.reset_peak()
    first, values, _ = peer.timed(call)
    if not all(math.isfinite(value) for value in values):
        raise ArithmeticError(f"expected finite results, got {values}")
    for _ in range(2):
        peer.timed(call)
    begin, walls, on_device = time.monotonic(), [], []
    while len(walls) < 5 or (time.monotonic() - begin < seconds and len(walls) < 300):
        wall, _, kernels = peer.timed(call)
        walls.append(wall)
        on_device.append(kernels)
        if len(walls) >= 3 and time.monotonic() - begin > 4 * seconds:
            break
    row = {"first_s": first, "median_s": statistics.median(walls), "least_s": min(walls), "runs": len(walls)}
    if on_device[0] is not None:
        row["device_s"] = statistics.median(on_device)
    if peer.peak() is not None:
        row["peak_bytes"] = peer.peak()
    return row


def write(out, row):
    print(json.dumps(row), file=out, flush=True)


if __name__ == "__main__":
    main()
