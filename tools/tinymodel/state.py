"""Checkpoints of a training that may be cut off, a clock that stands while the process is stopped, and a log."""
import contextlib
import json
import os
import time

import torch


class Clock:
    """Counts the seconds of steps; a step that took over two seconds (a stopped process) counts for two."""

    def __init__(self, limit, spent=0.0):
        self.limit, self.spent, self.last = limit, spent, time.monotonic()

    def tick(self):
        now = time.monotonic()
        self.spent += min(2.0, now - self.last)
        self.last = now
        return self.spent < self.limit

    @property
    def fraction(self):
        return min(1.0, self.spent / self.limit)


class Log:
    def __init__(self, path):
        self.path = path

    def __call__(self, **values):
        line = json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()})
        print(line, flush=True)
        with open(self.path, "a") as f:
            f.write(line + "\n")


def half(device, kind):
    """Products in a 16-bit type on a GPU, fp32 elsewhere."""
    return torch.autocast(device, dtype=kind, cache_enabled=False) if device == "cuda" else contextlib.nullcontext()


def save(path, value):
    torch.save(value, path + ".tmp")
    os.replace(path + ".tmp", path)


def load(path):
    return torch.load(path, map_location="cpu", **({"weights_only": False} if torch.__version__ >= "2" else {})) if os.path.exists(path) else None


def cosine(fraction, peak, warm=0.02, floor=0.01):
    """A learning rate that rises for a share of the time and then falls as a cosine."""
    import math
    if fraction < warm:
        return peak * max(0.02, fraction / warm)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (fraction - warm) / (1 - warm))))


def recorded(plain, optimizer, update, device, reads):
    """A function that does a step. On a GPU the step is recorded once as a CUDA graph, which saves the launches; reads is what it reads, which the
    graph does not hold."""
    if device != "cuda":
        return plain
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            plain()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    optimizer.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = update()

    def replay(held=reads):
        graph.replay()
        return result
    return replay
