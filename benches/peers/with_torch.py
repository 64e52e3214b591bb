"""PyTorch: on its GPU where it has one, else on the CPU."""

import gc
import math
import time
from contextlib import nullcontext

import torch
import torch.nn.functional as functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from memory import free_bytes, scores_bytes

BACKENDS = {
    "efficient": [SDPBackend.EFFICIENT_ATTENTION],
    "flash": [SDPBackend.FLASH_ATTENTION],
    "math": [SDPBackend.MATH],
    "cudnn": [SDPBackend.CUDNN_ATTENTION],
}
# The first of each is the one that is compared first.
ON_GPU = {
    "matmul": ["f32", "f16", "tf32"],
    "info_nce": ["eager f32", "eager f16", "compiled f32", "eager tf32"],
    "attention": ["efficient f32", "flash f16", "math f32", "efficient tf32", "efficient f16", "cudnn f16"],
}
ON_CPU = {
    "matmul": ["f32"],
    "info_nce": ["eager f32", "compiled f32"],
    "attention": ["flash f32", "math f32"],
}


class Peer:
    NAME = "torch"
    RATE = {True: 10_000.0, False: 20.0}

    def __init__(self, options):
        self.on_gpu = torch.cuda.is_available() and not options.cpu
        self.device = torch.device("cuda" if self.on_gpu else "cpu")

    def about(self):
        about = {"peer": self.NAME, "version": torch.__version__}
        if not self.on_gpu:
            return about | {"device": "cpu", "threads": torch.get_num_threads()}
        return about | {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}

    def variants(self, shape, compiled):
        """In the order of their importance."""
        names = (ON_GPU if self.on_gpu else ON_CPU)[shape["op"]]
        # What ours does in another arithmetic is compared with what comes nearest.
        near = {"f16": ["f16"], "fast": ["f32", "tf32"]}.get(shape.get("ours"))
        if near:
            names = [name for name in names if name.split()[-1] in near]
        return [name for name in names if compiled or not name.startswith("compiled")]

    def prepare(self, shape, variant):
        """What one call does; it returns its results on the device."""
        torch.manual_seed(1)
        *way, precision = variant.split()
        # "highest" is strict f32; "high" lets products of f32 run in TF32.
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        dtype = torch.float16 if precision == "f16" else torch.float32
        if shape["op"] == "matmul":
            return self.matmul(shape, dtype)
        if shape["op"] == "info_nce":
            return self.info_nce(shape, way[0] == "compiled", precision == "f16")
        return self.attention(shape, BACKENDS[way[0]], dtype)

    def uniform(self, *size, dtype=torch.float32):
        return torch.rand(size, device=self.device).mul_(2).sub_(1).to(dtype)

    def matmul(self, shape, dtype):
        batch, m, k, n = (shape[key] for key in ("batch", "m", "k", "n"))
        a = self.uniform(batch, *((k, m) if shape["transpose"] == "a" else (m, k)), dtype=dtype)
        b = self.uniform(batch, *((n, k) if shape["transpose"] == "b" else (k, n)), dtype=dtype)
        a = a.mT if shape["transpose"] == "a" else a
        b = b.mT if shape["transpose"] == "b" else b
        # One matrix is no batch: the library chooses another way for those.
        a, b = (a[0], b[0]) if batch == 1 else (a, b)
        return lambda: [a @ b]

    def info_nce(self, shape, compiled, half):
        """OpenCLIP's loss with its three gradients; in half precision by autocast, as it is trained."""
        rows = [functional.normalize(self.uniform(shape["n"], shape["d"]), dim=1) for _ in range(2)]
        scale = torch.tensor(math.log(1 / 0.07), device=self.device)
        leaves = [leaf.requires_grad_() for leaf in (*rows, scale)]
        loss_of = clip_loss
        if compiled:
            torch._dynamo.reset()  # else a second shape would be compiled for any size
            loss_of = torch.compile(clip_loss, dynamic=False)

        def call():
            with torch.autocast(self.device.type, torch.float16) if half else nullcontext():
                loss = loss_of(*leaves)
            return [loss.detach(), *torch.autograd.grad(loss, leaves)]

        return call

    def attention(self, shape, backend, dtype):
        batch, heads, width = shape["batch"], shape["heads"], shape["width"]
        lengths = (shape["queries"], shape["keys"], shape["keys"], shape["queries"])
        q, k, v, upstream = (self.uniform(batch, heads, length, width, dtype=dtype) for length in lengths)
        leaves = [x.requires_grad_(shape["backward"]) for x in (q, k, v)]

        def call():
            with sdpa_kernel(backend):
                out = functional.scaled_dot_product_attention(*leaves)
            grads = torch.autograd.grad(out, leaves, upstream) if shape["backward"] else ()
            return [out.detach(), *grads]

        return call

    def timed(self, call):
        """Seconds until a value of each result is on the host, those values, and the seconds of the kernels alone."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2)) if self.on_gpu else (None, None)
        if self.on_gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        if self.on_gpu:
            begin.record()
        results = call()
        if self.on_gpu:
            end.record()
        values = torch.stack([result.reshape(-1)[0].float() for result in results]).tolist()
        wall = time.perf_counter() - start
        return wall, values, begin.elapsed_time(end) / 1e3 if self.on_gpu else None

    def least_bytes(self, shape, variant):
        """What it takes for certain. On a GPU one matrix of logits; on a CPU, where too much would end the process, those
        that are kept for the backward too."""
        stored = shape["op"] == "info_nce" or variant.startswith("math")
        return scores_bytes(shape) * (1 if self.on_gpu else 5) if stored else 0

    def memory_bytes(self):
        return torch.cuda.get_device_properties(0).total_memory if self.on_gpu else free_bytes()

    def reset_peak(self):
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()

    def peak(self):
        return torch.cuda.max_memory_allocated() if self.on_gpu else None

    def release(self):
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def is_out_of_memory(self, error):
        return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)


def clip_loss(x, y, log_scale):
    logits = log_scale.exp() * x @ y.T
    labels = torch.arange(len(x), device=x.device)
    return (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)) / 2
