"""Writes bicubic.safetensors: random pictures resized by PyTorch as transformers' fast image processor of Qwen2.5-VL does
(torchvision's resize of a uint8 tensor: interpolate, bicubic, antialiased). Made with PyTorch 2.14.1 on a processor with
AVX-512; pictures in either memory format gave the same bytes.

usage: bicubic.py OUT
"""
import json
import struct
import sys

import torch
from torch.nn.functional import interpolate

SIZES = [((17, 23), (40, 31)), ((61, 47), (28, 28)), ((30, 41), (56, 84)), ((3, 90), (28, 56)), ((64, 64), (28, 140)), ((90, 7), (13, 8))]

generator = torch.Generator().manual_seed(3)
tensors = {}
for k, (size, to) in enumerate(SIZES):
    x = torch.randint(0, 256, (1, 3, *size), generator=generator, dtype=torch.uint8)
    if k % 2:
        x = (x > 127).to(torch.uint8) * 255  # overshoots on both sides
    y = interpolate(x, size=to, mode="bicubic", antialias=True)
    other = interpolate(x.contiguous(memory_format=torch.channels_last), size=to, mode="bicubic", antialias=True)
    assert torch.equal(y, other)
    tensors[f"{k}.in"], tensors[f"{k}.out"] = x[0], y[0]

header, at = {}, 0
for name, t in tensors.items():
    header[name] = {"dtype": "U8", "shape": list(t.shape), "data_offsets": [at, at + t.numel()]}
    at += t.numel()
text = json.dumps(header).encode()
with open(sys.argv[1], "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text)
    for t in tensors.values():
        f.write(bytes(t.contiguous().flatten().tolist()))
