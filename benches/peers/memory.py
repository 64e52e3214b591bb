"""How much memory there is, and how much the scores of a shape take."""

import os


def free_bytes():
    """Of the host. Where it cannot be told, more than any shape takes."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 62


def scores_bytes(shape):
    """One matrix of all logits or weights in f32; 0 for a product."""
    if shape["op"] == "info_nce":
        return 4 * shape["n"] ** 2
    if shape["op"] == "attention":
        return 4 * shape["batch"] * shape["heads"] * shape["queries"] * shape["keys"]
    return 0
