"""The text decoder of Qwen2.5-VL and CLIP's text tower with their published tensor names (transformers)."""
import torch
import torch.nn.functional as F
from torch import nn

from .attend import attend


def rms(x, weight, eps):
    f = x.float()
    return weight * (f * torch.rsqrt(f.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        return rms(x, self.weight, self.eps)


def rotate_halves(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class QwenAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        d = c["hidden_size"] // c["num_attention_heads"]
        self.d, self.group = d, c["num_attention_heads"] // c["num_key_value_heads"]
        self.q_proj = nn.Linear(c["hidden_size"], d * c["num_attention_heads"])
        self.k_proj = nn.Linear(c["hidden_size"], d * c["num_key_value_heads"])
        self.v_proj = nn.Linear(c["hidden_size"], d * c["num_key_value_heads"])
        self.o_proj = nn.Linear(d * c["num_attention_heads"], c["hidden_size"], bias=False)

    def forward(self, x, cos, sin, past):
        heads = lambda t: t.unflatten(-1, (-1, self.d)).transpose(1, 2)
        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        q, k = rotate_halves(q, cos, sin).to(v.dtype), rotate_halves(k, cos, sin).to(v.dtype)
        if past is not None:
            k = torch.cat((past[0].expand(x.shape[0], -1, -1, -1), k), 2)
            v = torch.cat((past[1].expand(x.shape[0], -1, -1, -1), v), 2)
        kept = k, v
        k, v = k.repeat_interleave(self.group, 1), v.repeat_interleave(self.group, 1)
        n, m = q.shape[2], k.shape[2]
        mask = torch.arange(m, device=x.device)[None, :] <= torch.arange(m - n, m, device=x.device)[:, None]
        y = attend(q, k, v, mask[None, None])
        return self.o_proj(y.transpose(1, 2).flatten(-2)), kept


class QwenMLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=False)
        self.up_proj = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=False)
        self.down_proj = nn.Linear(c["intermediate_size"], c["hidden_size"], bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class QwenLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.self_attn = QwenAttention(c)
        self.post_attention_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.mlp = QwenMLP(c)

    def forward(self, x, cos, sin, past):
        y, kept = self.self_attn(self.input_layernorm(x), cos, sin, past)
        x = x + y
        return x + self.mlp(self.post_attention_layernorm(x)), kept


class QwenDecoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(QwenLayer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])

    def forward(self, ids, past=None):
        """ids [B, L] -> hidden states after the last norm [B, L, width], and keys and values for what follows."""
        first = past[0][0].shape[2] if past else 0
        d = self.c["hidden_size"] // self.c["num_attention_heads"]
        k = torch.arange(d // 2, dtype=torch.float32, device=ids.device)
        inverse = self.c["rope_theta"] ** (-2 * k / d)
        angles = torch.outer(torch.arange(first, first + ids.shape[1], dtype=torch.float32, device=ids.device), inverse)
        cos, sin = angles.cos(), angles.sin()
        x, kept = self.embed_tokens(ids), []
        for i, layer in enumerate(self.layers):
            x, kv = layer(x, cos, sin, past[i] if past else None)
            kept.append(kv)
        return self.norm(x), kept


class Qwen(nn.Module):
    """Wraps the decoder so that names start with "model."."""

    def __init__(self, c):
        super().__init__()
        self.model = QwenDecoder(c)

    def forward(self, ids, past=None):
        return self.model(ids, past)


class CLIPAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        n = c["hidden_size"]
        self.d = n // c["num_attention_heads"]
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(n, n) for _ in range(4))

    def forward(self, x):
        heads = lambda t: t.unflatten(-1, (-1, self.d)).transpose(1, 2)
        n = x.shape[1]
        mask = torch.arange(n, device=x.device)[None, :] <= torch.arange(n, device=x.device)[:, None]
        y = attend(heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x)), mask[None, None])
        return self.out_proj(y.transpose(1, 2).flatten(-2))


class CLIPMLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(c["hidden_size"], c["intermediate_size"]), nn.Linear(c["intermediate_size"], c["hidden_size"])

    def forward(self, x):
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class CLIPLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(c["hidden_size"], eps=1e-5), nn.LayerNorm(c["hidden_size"], eps=1e-5)
        self.self_attn, self.mlp = CLIPAttention(c), CLIPMLP(c)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class CLIPEmbeddings(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.token_embedding = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.position_embedding = nn.Embedding(c["max_position_embeddings"], c["hidden_size"])


class CLIPEncoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.layers = nn.ModuleList(CLIPLayer(c) for _ in range(c["num_hidden_layers"]))


class CLIPTextModel(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embeddings, self.encoder = CLIPEmbeddings(c), CLIPEncoder(c)
        self.final_layer_norm = nn.LayerNorm(c["hidden_size"], eps=1e-5)

    def forward(self, ids):
        """ids [B, L] -> last hidden state [B, L, width] and the row of the first largest id [B, width]."""
        x = self.embeddings.token_embedding(ids) + self.embeddings.position_embedding.weight[:ids.shape[1]]
        for layer in self.encoder.layers:
            x = layer(x)
        x = self.final_layer_norm(x)
        return x, x[torch.arange(len(ids), device=ids.device), ids.argmax(-1)]


class CLIP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.text_model = CLIPTextModel(c)

    def forward(self, ids):
        return self.text_model(ids)
