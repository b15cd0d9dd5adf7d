"""The diffusion transformer of Kandinsky 5 with its published tensor names (kandinsky-5, kandinsky/models/dit.py, nn.py)."""
import math

import torch
import torch.nn.functional as F
from torch import nn

from .attend import attend

RMS_EPS = 2.0 ** -23  # PyTorch's default: the machine epsilon of fp32


def frequencies(n, device):
    """exp(-ln(10000) k / n) for k = 0 ... n-1, in fp32."""
    k = torch.arange(n, dtype=torch.float32, device=device)
    return torch.exp(-math.log(10000.0) * k / n)


def rope_text(length, head_dim, device):
    """Cosines and sines of text positions, [length, head_dim / 2]."""
    angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequencies(head_dim // 2, device))
    return angles.cos(), angles.sin()


def rope_visual(frames, rows, cols, axes, scale, device):
    """Cosines and sines of visual tokens in (frame, row, column) order, [frames * rows * cols, head_dim / 2]."""
    parts = []
    for axis, (size, dim, s) in enumerate(zip((frames, rows, cols), axes, scale)):
        angles = torch.outer(torch.arange(size, dtype=torch.float32, device=device), frequencies(dim // 2, device)) / s
        shape = [1, 1, 1, dim // 2]
        shape[axis] = size
        parts.append(angles.view(shape).expand(frames, rows, cols, dim // 2))
    angles = torch.cat(parts, -1).reshape(frames * rows * cols, -1)
    return angles.cos(), angles.sin()


def rotate(x, rope):
    """Turns adjacent pairs of channels; x [B, heads, N, d]."""
    cos, sin = rope
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((cos * a - sin * b, sin * a + cos * b), -1).flatten(-2).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        f = x.float()
        return (f * torch.rsqrt(f.square().mean(-1, keepdim=True) + RMS_EPS) * self.weight.float()).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, dim, head_dim):
        super().__init__()
        self.head_dim = head_dim
        self.to_query, self.to_key, self.to_value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.query_norm, self.key_norm = RMSNorm(head_dim), RMSNorm(head_dim)
        self.out_layer = nn.Linear(dim, dim)

    def forward(self, x, context=None, rope=None, mask=None):
        """x [B, N, D]; context [B, L, D] or x itself; mask [B, L] of valid keys."""
        context = x if context is None else context
        heads = lambda t: t.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        q, k, v = heads(self.to_query(x)), heads(self.to_key(context)), heads(self.to_value(context))
        q, k = self.query_norm(q), self.key_norm(k)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        if mask is not None:
            mask = mask[:, None, None, :]
        out = attend(q, k, v, mask)
        return self.out_layer(out.transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    def __init__(self, dim, ff):
        super().__init__()
        self.in_layer, self.out_layer = nn.Linear(dim, ff, bias=False), nn.Linear(ff, dim, bias=False)

    def forward(self, x):
        return self.out_layer(F.gelu(self.in_layer(x)))


class Modulation(nn.Module):
    def __init__(self, time_dim, dim, parts):
        super().__init__()
        self.parts = parts
        self.out_layer = nn.Linear(time_dim, parts * dim)
        nn.init.zeros_(self.out_layer.weight)
        nn.init.zeros_(self.out_layer.bias)

    def forward(self, c):
        """c [B, Td] fp32 -> parts of [B, 1, D]."""
        with torch.autocast(c.device.type, enabled=False):
            return self.out_layer(F.silu(c))[:, None].chunk(self.parts, -1)


def modulate(x, shift, scale):
    return F.layer_norm(x.float(), x.shape[-1:], eps=1e-5) * (1 + scale) + shift


class TextBlock(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.text_modulation = Modulation(p["time_dim"], p["model_dim"], 6)
        self.self_attention = Attention(p["model_dim"], sum(p["axes_dims"]))
        self.feed_forward = FeedForward(p["model_dim"], p["ff_dim"])

    def forward(self, y, c, rope, mask):
        sa, ca, ga, sf, cf, gf = self.text_modulation(c)
        y = y + ga * self.self_attention(modulate(y, sa, ca), rope=rope, mask=mask)
        return y + gf * self.feed_forward(modulate(y, sf, cf))


class VisualBlock(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.visual_modulation = Modulation(p["time_dim"], p["model_dim"], 9)
        self.self_attention = Attention(p["model_dim"], sum(p["axes_dims"]))
        self.cross_attention = Attention(p["model_dim"], sum(p["axes_dims"]))
        self.feed_forward = FeedForward(p["model_dim"], p["ff_dim"])

    def forward(self, v, c, context, rope, mask):
        ss, cs, gs, sc, cc, gc, sf, cf, gf = self.visual_modulation(c)
        v = v + gs * self.self_attention(modulate(v, ss, cs), rope=rope)
        v = v + gc * self.cross_attention(modulate(v, sc, cc), context=context, mask=mask)
        return v + gf * self.feed_forward(modulate(v, sf, cf))


class Embedding(nn.Module):
    def __init__(self, into, out, norm=False):
        super().__init__()
        self.in_layer = nn.Linear(into, out)
        if norm:
            self.norm = nn.LayerNorm(out, eps=1e-5)

    def forward(self, x):
        x = self.in_layer(x)
        return self.norm(x.float()) if hasattr(self, "norm") else x.float()


class TimeEmbedding(nn.Module):
    def __init__(self, dim, time_dim):
        super().__init__()
        self.dim = dim
        self.in_layer, self.out_layer = nn.Linear(dim, time_dim), nn.Linear(time_dim, time_dim)

    def forward(self, time):
        """time [B], already times 1000."""
        angles = time.float()[:, None] * frequencies(self.dim // 2, time.device)
        with torch.autocast(time.device.type, enabled=False):
            return self.out_layer(F.silu(self.in_layer(torch.cat((angles.cos(), angles.sin()), -1))))


class OutLayer(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.modulation = Modulation(p["time_dim"], p["model_dim"], 2)
        self.out_layer = nn.Linear(p["model_dim"], 4 * p["out_visual_dim"])
        nn.init.zeros_(self.out_layer.weight)
        nn.init.zeros_(self.out_layer.bias)

    def forward(self, v, c):
        shift, scale = self.modulation(c)
        return self.out_layer(modulate(v, shift, scale))


class DiT(nn.Module):
    """p: the dit_params of a configuration."""

    def __init__(self, p):
        super().__init__()
        self.p = p
        channels = 2 * p["in_visual_dim"] + 1 if p.get("visual_cond") else p["in_visual_dim"]
        self.time_embeddings = TimeEmbedding(p["model_dim"], p["time_dim"])
        self.text_embeddings = Embedding(p["in_text_dim"], p["model_dim"], norm=True)
        self.pooled_text_embeddings = Embedding(p["in_text_dim2"], p["time_dim"], norm=True)
        self.visual_embeddings = Embedding(4 * channels, p["model_dim"])
        self.text_transformer_blocks = nn.ModuleList(TextBlock(p) for _ in range(p["num_text_blocks"]))
        self.visual_transformer_blocks = nn.ModuleList(VisualBlock(p) for _ in range(p["num_visual_blocks"]))
        self.out_layer = OutLayer(p)

    def forward(self, x, text, pooled, time, mask, scale, trace=None):
        """x [B, T, H, W, C], text [B, L, in_text_dim], pooled [B, in_text_dim2], time [B], mask [B, L] -> [B, T, H, W, 16]."""
        note = trace if trace is not None else {}
        b, t, h, w, _ = x.shape
        te = self.time_embeddings(time)
        c = te + self.pooled_text_embeddings(pooled)
        y = self.text_embeddings(text)
        rope = rope_text(text.shape[1], sum(self.p["axes_dims"]), x.device)
        for i, block in enumerate(self.text_transformer_blocks):
            y = block(y, c, rope, mask)
            note[f"text_block.{i}"] = y
        patches = x.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t * (h // 2) * (w // 2), -1)
        v = self.visual_embeddings(patches)
        note.update({"time_embed": te, "visual_embed": v})
        rope = rope_visual(t, h // 2, w // 2, self.p["axes_dims"], scale, x.device)
        for i, block in enumerate(self.visual_transformer_blocks):
            v = block(v, c, y, rope, mask)
            note[f"visual_block.{i}"] = v
        o = self.out_layer(v, c).float()
        o = o.view(b, t, h // 2, w // 2, -1, 2, 2).permute(0, 1, 2, 5, 3, 6, 4).reshape(b, t, h, w, -1)
        note["velocity"] = o
        return o
