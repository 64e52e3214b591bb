"""numpy: the formulas as one would write them, f32, on the CPU with the threads its BLAS takes."""

import math
import time

import numpy

from memory import free_bytes, scores_bytes


class Peer:
    NAME = "numpy"
    RATE = {False: 20.0}
    on_gpu = False

    def __init__(self, options):
        self.random = numpy.random.default_rng(1)

    def about(self):
        blas = numpy.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
        name = f"{blas.get('name', 'unknown BLAS')} {blas.get('version', '')}".strip()
        return {"peer": self.NAME, "version": numpy.__version__, "device": "cpu", "blas": name}

    def variants(self, shape, compiled):
        # It has no f16 product worth the name, and no parts.
        return [] if "ours" in shape else ["f32"]

    def prepare(self, shape, variant):
        return {"matmul": self.matmul, "info_nce": self.info_nce, "attention": self.attention}[shape["op"]](shape)

    def uniform(self, *size):
        return self.random.random(size, dtype=numpy.float32) * 2 - 1

    def matmul(self, shape):
        batch, m, k, n = (shape[key] for key in ("batch", "m", "k", "n"))
        a = self.uniform(batch, k, m).swapaxes(1, 2) if shape["transpose"] == "a" else self.uniform(batch, m, k)
        b = self.uniform(batch, n, k).swapaxes(1, 2) if shape["transpose"] == "b" else self.uniform(batch, k, n)
        return lambda: [a @ b]

    def info_nce(self, shape):
        rows = [self.uniform(shape["n"], shape["d"]) for _ in range(2)]
        x, y = (row / numpy.linalg.norm(row, axis=1, keepdims=True) for row in rows)
        return lambda: clip_loss_and_gradients(x, y, numpy.float32(math.log(1 / 0.07)))

    def attention(self, shape):
        batch, heads, width = shape["batch"], shape["heads"], shape["width"]
        lengths = (shape["queries"], shape["keys"], shape["keys"], shape["queries"])
        q, k, v, upstream = (self.uniform(batch, heads, length, width) for length in lengths)
        return lambda: attention(q, k, v, upstream if shape["backward"] else None)

    def timed(self, call):
        start = time.perf_counter()
        values = [float(numpy.ravel(result)[0]) for result in call()]
        return time.perf_counter() - start, values, None

    def least_bytes(self, shape, variant):
        return 4 * scores_bytes(shape)

    def memory_bytes(self):
        return free_bytes()

    def reset_peak(self):
        pass

    def peak(self):
        return None

    def release(self):
        pass

    def is_out_of_memory(self, error):
        return isinstance(error, MemoryError)


def softmax(scores, axis):
    """With the logarithm of the sums."""
    most = scores.max(axis=axis, keepdims=True)
    weights = numpy.exp(scores - most)
    sums = weights.sum(axis=axis, keepdims=True)
    weights /= sums
    return weights, (most + numpy.log(sums)).ravel()


def clip_loss_and_gradients(x, y, log_scale):
    scale, n = numpy.exp(log_scale), numpy.float32(len(x))
    logits = scale * x @ y.T
    of_rows, row_sums = softmax(logits, 1)
    of_columns, column_sums = softmax(logits, 0)
    loss = ((row_sums + column_sums) / 2 - logits.diagonal()).mean()
    gradient = of_rows
    gradient += of_columns
    gradient /= 2 * n
    gradient[numpy.diag_indices(len(x))] -= 1 / n
    return [loss, scale * (gradient @ y), scale * (gradient.T @ x), numpy.vdot(gradient, logits)]


def attention(q, k, v, upstream):
    scale = numpy.float32(1 / math.sqrt(q.shape[-1]))
    weights, _ = softmax(scale * (q @ k.swapaxes(2, 3)), 3)
    out = weights @ v
    if upstream is None:
        return [out]
    of_weights = upstream @ v.swapaxes(2, 3)
    of_scores = weights * (of_weights - (of_weights * weights).sum(axis=3, keepdims=True)) * scale
    return [out, of_scores @ k, of_scores.swapaxes(2, 3) @ q, weights.swapaxes(2, 3) @ upstream]
