"""torch.randn of a CUDA generator, in numpy: Philox4x32-10 and Box-Muller (pytorch, aten/src/ATen/native/cuda/DistributionTemplates.h; cuRAND),
for the fixed card of 132 multiprocessors of 2048 threads."""
import numpy as np
import torch

BLOCKS, THREADS = 132 * 8, 256  # at most so many blocks of so many threads share a draw


def philox(counter, key):
    """counter: four uint32 arrays; key: 64 bits. Four arrays of random words."""
    c = [np.asarray(v, np.uint64) for v in counter]
    k0, k1 = np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> half) ^ c[1] ^ k0, p1 & low, (p0 >> half) ^ c[3] ^ k1, p0 & low]
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return c


def box_muller(a, b):
    """Two arrays of words -> two arrays of normal numbers, the sine's first. Products of fp32 are exact in fp64, so that one rounding stands for
    the card's fused multiply-add."""
    unit, angle = np.float32(2.3283064e-10), np.float32(1.4629181e-09)
    scaled = lambda w, f: (w.astype(np.float32).astype(np.float64) * np.float64(f) + np.float64(f / np.float32(2))).astype(np.float32).astype(np.float64)
    radius, v = np.sqrt(-2 * np.log(scaled(a, unit))), scaled(b, angle)
    return (radius * np.sin(v)).astype(np.float32), (radius * np.cos(v)).astype(np.float32)


def randn(seed, n):
    """The first draw of n numbers of a fresh generator, fp32 [n], in memory order."""
    threads = THREADS * min(BLOCKS, -(-n // THREADS))
    t, parts = np.arange(threads, dtype=np.uint64), []
    for k in range(-(-n // (4 * threads))):
        zero = np.zeros_like(t)
        x, y, z, w = philox((zero + np.uint64(k), zero, t, zero), seed)
        parts += [*box_muller(x, y), *box_muller(z, w)]
    return torch.from_numpy(np.concatenate(parts)[:n].copy())


def latent_noise(seed, shape):
    """What a clip starts from, rounded to bf16, [T, h, w, 16]."""
    return randn(seed, int(np.prod(shape))).bfloat16().float().reshape(shape)


def posterior_noise(seed, channels, height, width):
    """The noise of the first frame's encoding, [1, 16, 1, h, w]."""
    return randn(seed, channels * height * width).reshape(1, channels, 1, height, width)
