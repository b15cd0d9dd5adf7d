"""The size of a clip that starts from a picture, and torchvision's antialiased bilinear resize of 8-bit pictures, bit by bit (kandinsky-5,
kandinsky/i2v_pipeline.py)."""
import numpy as np


def fit(height, width, area=128 * 128, multiple=16):
    """Height and width of about so many pixels in whole multiples, with the picture's aspect."""
    k = (area / (height * width)) ** 0.5 / multiple
    return round(height * k) * multiple, round(width * k) * multiple


def filter_rows(x, size):
    """x fp32 [n, ...] -> [size, ...] along the first axis."""
    f = np.float32
    scale = f(len(x)) / f(size)
    support, inverse = max(scale, f(1)), f(1) / scale if scale >= 1 else f(1)
    out = np.empty((size,) + x.shape[1:], f)
    for i in range(size):
        center = f(scale * f(i + f(0.5)))
        first, end = max(int(center - support + f(0.5)), 0), min(int(center + support + f(0.5)), len(x))
        w = [max(f(0), f(1) - abs(f((f(j + first) - center + f(0.5)) * inverse))) for j in range(end - first)]
        total = f(0)
        for v in w:
            total = f(total + v)
        w = [f(v / total) for v in w]
        acc = x[first] * w[0]
        for j in range(1, len(w)):  # a fused multiply-add: exact in fp64 up to its own rounding
            acc = (x[first + j].astype(np.float64) * np.float64(w[j]) + acc).astype(f)
        out[i] = acc
    return out


def resize(image, height, width):
    """uint8 [H, W, C] -> uint8 [height, width, C]."""
    if image.shape[:2] == (height, width):
        return image
    x = filter_rows(image.astype(np.float32).transpose(1, 0, 2), width).transpose(1, 0, 2)
    return np.clip(np.rint(filter_rows(x, height)), 0, 255).astype(np.uint8)
