#!/usr/bin/env python3
"""Times a decode of HunyuanVideo's causal 3-D autoencoder in PyTorch, with made-up weights: the neighbour that
`vkandinsky bench vae` is compared with. The network is written anew here, for its shapes alone.

    tools/peers/vae.py --frames 121 --height 512 --width 768 [--dtype float16] [--rounds 1] [--only eager,benchmark]

Tiles in time as in kandinsky-5 (17 frames, 8 new ones each), frames whole. It prints the time of one tile and of the
whole decode, until the bytes of all frames are on the host, as PyTorch comes (eager) and in other ways (--only): with
cuDNN's search for the fastest kernels (benchmark), with channels-last memory (channels-last), or both (both).
"""
import argparse
import time

import torch
import torch.nn.functional as F
from torch import nn


class CausalConv(nn.Module):
    def __init__(self, cin, cout, kernel=3):
        super().__init__()
        self.pad = (kernel // 2,) * 4 + (kernel - 1, 0)
        self.conv = nn.Conv3d(cin, cout, kernel)

    def forward(self, x):
        return self.conv(F.pad(x, self.pad, mode="replicate") if any(self.pad) else x)


class Residual(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, cin, 1e-6), CausalConv(cin, cout)
        self.norm2, self.conv2 = nn.GroupNorm(32, cout, 1e-6), CausalConv(cout, cout)
        self.shortcut = CausalConv(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(self.norm2(h))) + self.shortcut(x)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = nn.GroupNorm(32, c, 1e-6)
        self.q, self.k, self.v, self.out = (nn.Linear(c, c) for _ in range(4))

    def forward(self, x):
        b, c, t, h, w = x.shape
        y = self.norm(x).reshape(b, c, -1).transpose(1, 2)
        frame = torch.arange(t, device=x.device).repeat_interleave(h * w)
        mask = torch.zeros(t * h * w, t * h * w, dtype=x.dtype, device=x.device)
        mask.masked_fill_(frame[None, :] > frame[:, None], float("-inf"))
        y = F.scaled_dot_product_attention(self.q(y)[:, None], self.k(y)[:, None], self.v(y)[:, None], mask[None, None])
        return x + self.out(y[:, 0]).transpose(1, 2).reshape(x.shape)


class Upsample(nn.Module):
    def __init__(self, c, time_factor):
        super().__init__()
        self.time, self.conv = time_factor, CausalConv(c, c)

    def forward(self, x):
        first = F.interpolate(x[:, :, 0], scale_factor=2, mode="nearest")[:, :, None]
        if x.shape[2] > 1:
            rest = F.interpolate(x[:, :, 1:].contiguous(), scale_factor=(self.time, 2, 2), mode="nearest")
            first = torch.cat([first, rest], 2)
        return self.conv(first)


def decoder():
    layers = [CausalConv(16, 16, 1), CausalConv(16, 512), Residual(512, 512), Attention(512), Residual(512, 512)]
    cin = 512
    for b, cout in enumerate((512, 512, 256, 128)):
        for _ in range(3):
            layers.append(Residual(cin, cout))
            cin = cout
        if b < 3:
            layers.append(Upsample(cout, min(b + 1, 2)))
    return nn.Sequential(*layers, nn.GroupNorm(32, 128, 1e-6), nn.SiLU(), CausalConv(128, 3))


def decode(net, z):
    """z [1, 16, T, H, W] to frames [1, 3, 4(T - 1) + 1, 8H, 8W]; tiles of 5 latent frames from every second on."""
    if z.shape[2] <= 5:
        return net(z)
    out, before = [], None
    starts = range(0, z.shape[2] - 3, 2)
    for i in starts:
        tile = net(z[:, :, i : i + 5])
        if i:
            tile = tile[:, :, 1:]
            extent = min(before.shape[2], tile.shape[2], 8)
            weight = torch.arange(extent, device=z.device, dtype=z.dtype).div(extent)[:, None, None]
            tile[:, :, :extent] = before[:, :, -extent:] * (1 - weight) + tile[:, :, :extent] * weight
        before = tile
        out.append(tile if i == starts[-1] else tile[:, :, : 8 + (i == 0)])
    return torch.cat(out, 2)


def timed(work):
    torch.cuda.synchronize()
    start = time.perf_counter()
    result = work()
    torch.cuda.synchronize()
    return time.perf_counter() - start, result


@torch.inference_mode()
def main():
    p = argparse.ArgumentParser()
    p.add_argument("--frames", type=int, default=121)
    p.add_argument("--height", type=int, default=512)
    p.add_argument("--width", type=int, default=768)
    p.add_argument("--dtype", default="float16")
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--only", default="eager,benchmark,channels-last,both")
    a = p.parse_args()
    dtype = getattr(torch, a.dtype)
    torch.manual_seed(1)
    with torch.device("cuda"):
        net = decoder().to(dtype).eval()
        z = torch.randn(1, 16, (a.frames - 1) // 4 + 1, a.height // 8, a.width // 8, dtype=dtype)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, {a.dtype}, {a.frames} frames of {a.width}x{a.height}", flush=True)
    for way in a.only.split(","):
        torch.backends.cudnn.benchmark = way in ("benchmark", "both")
        if way in ("channels-last", "both"):
            net, z = net.to(memory_format=torch.channels_last_3d), z.to(memory_format=torch.channels_last_3d)
        first, _ = timed(lambda: net(z[:, :, :5]))
        tile = min(timed(lambda: net(z[:, :, :5]))[0] for _ in range(2))
        print(f"{way}: first tile {first:.2f} s, tile {tile * 1e3:.0f} ms", flush=True)
        torch.cuda.reset_peak_memory_stats()
        whole = [timed(lambda: decode(net, z).clamp(-1, 1).add(1).mul(127.5).to(torch.uint8).cpu())[0] for _ in range(a.rounds)]
        if whole:
            print(f"{way}: whole decode {min(whole):.2f} s, peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", flush=True)


if __name__ == "__main__":
    main()
