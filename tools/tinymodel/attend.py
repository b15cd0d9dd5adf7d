"""Scaled dot-product attention, also for PyTorch versions that have none."""
import torch
import torch.nn.functional as F


def attend(q, k, v, mask=None):
    """q [..., N, d], k and v [..., M, d]; mask, boolean, keeps what is true."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.softmax(scores.float(), -1).to(v.dtype) @ v
