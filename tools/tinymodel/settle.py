"""Starts the autoencoder as a linear one that keeps colors: averages of 4 frames of 8 x 8 pixels, and edges by random filters.

Two things stand in the way of a small network that learns from nothing. A group norm of few channels divides by the spread of the clip that it sees, so that a
color comes out as another one where the shape is larger. And a clip has two colors only, so that a batch teaches little about colors. Here a trunk of the network
carries a value v in four channels,

    v + LEVEL, v - LEVEL, -v + LEVEL, -v - LEVEL,

whose mean is 0 and whose spread hardly depends on v: the group norm passes v on, its weight and bias take the constants out again, and silu(v) - silu(-v) = v
gets it through the activation. The trunks' convolutions start as averages, the residual branches near zero."""
import torch

from .vae import Decoder, Encoder, GroupNorm, ResNet, Sampler

LEVEL, LOGVAR, BRANCH = 3.0, -6.0, 0.1
SIGNS, CONSTANTS = (1.0, 1.0, -1.0, -1.0), (1.0, -1.0, 1.0, -1.0)


def repeated(pattern, channels, device):
    return torch.tensor(pattern, device=device).repeat(channels // 4)


def kernel(out, into, size, strides, like):
    """Of values: the first `min(out, into)` average what a stride skips, the others are random filters that do not see a flat color."""
    k = torch.randn(out, into, *size, device=like.device)
    if k[0, 0].numel() > 1:
        k -= k.mean((2, 3, 4), keepdim=True)
    kept = range(min(out, into) if strides == (1, 1, 1) else 3)
    taps = [[1] if s == 1 and n == 3 else [0] if n == 1 else [1, 2] for s, n in zip(strides, size)]
    if size[0] == 3 and strides[0] == 1:
        taps[0] = [2]  # the frame itself: the convolution sees two frames before it
    for i in kept:
        k[i] = 0
        for t in taps[0]:
            for y in taps[1]:
                for x in taps[2]:
                    k[i, i, t, y, x] = 1 / (len(taps[0]) * len(taps[1]) * len(taps[2]))
    return k


def lay(conv, reads, writes):
    """Sets a convolution that reads and writes plain channels, a trunk's, or (reads only) a trunk's after norm and silu."""
    w = conv.weight
    many = lambda kind, n: n if kind == "plain" else n // 4
    k = kernel(many(writes, w.shape[0]), many(reads, w.shape[1]), tuple(w.shape[2:]), tuple(conv.stride), w)
    if reads != "plain":
        k = k.repeat_interleave(4, 1) * repeated(SIGNS, w.shape[1], w.device)[None, :, None, None, None] * (0.25 if reads == "trunk" else 0.5)
    conv.bias.zero_()
    if writes != "plain":
        k = k.repeat_interleave(4, 0) * repeated(SIGNS, w.shape[0], w.device)[:, None, None, None, None]
        conv.bias.copy_(LEVEL * repeated(CONSTANTS, w.shape[0], w.device))
    w.copy_(k)


def even(module, _, out):
    """A forward hook that scales a trunk's random values to deviation 1; the first three, colors, stay."""
    conv = module.conv
    signs, level = repeated(SIGNS, out.shape[1], out.device), LEVEL * repeated(CONSTANTS, out.shape[1], out.device)
    shaped = lambda v: v[None, :, None, None, None]
    spread = ((out - shaped(level)) * shaped(signs)).unflatten(1, (-1, 4)).mean(2).std((0, 2, 3, 4)).clamp_min(1e-3)
    spread[:3] = 1
    spread = spread.repeat_interleave(4)
    conv.weight.data /= spread[:, None, None, None, None]
    return (out - shaped(level)) / shaped(spread) + shaped(level)


def center(module, _, out):
    """A forward hook for the first convolution of a branch: deviation 1 about the constants, channel by channel."""
    conv, over = module.conv, (0, 2, 3, 4)
    spread = out.std(over).clamp_min(1e-3)
    move = LEVEL * repeated(CONSTANTS, len(spread), out.device) - out.mean(over) / spread
    conv.weight.data /= spread[:, None, None, None, None]
    conv.bias.data.copy_(conv.bias / spread + move)
    return out / spread[None, :, None, None, None] + move[None, :, None, None, None]


def trunk(net):
    """The weights that read a trunk with its constants, to which a step of the usual size is large."""
    return [p for name, p in net.named_parameters() if ("samplers" in name or "conv_shortcut" in name) and name.endswith("weight")]


@torch.no_grad()
def settle(net, clips):
    """clips: [B, 3, T, H, W] in [-1, 1]. Latents start with deviation about 1 and little noise."""
    hooks = []
    for m in net.modules():
        if isinstance(m, ResNet):
            hooks.append(m.conv1.register_forward_hook(center))
            m.conv2.conv.weight.mul_(BRANCH)
            m.conv2.conv.bias.zero_()
            if hasattr(m, "conv_shortcut"):
                lay(m.conv_shortcut.conv, "trunk", "trunk")
                hooks.append(m.conv_shortcut.register_forward_hook(even))
        elif isinstance(m, Sampler):
            lay(m.conv.conv, "trunk", "trunk")
            hooks.append(m.conv.register_forward_hook(even))
        elif isinstance(m, (Encoder, Decoder)):
            lay(m.conv_in.conv, "plain", "trunk")
            hooks.append(m.conv_in.register_forward_hook(even))
            lay(m.conv_out.conv, "normed", "plain")
        elif isinstance(m, GroupNorm):
            m.weight.fill_((LEVEL ** 2 + 0.5) ** 0.5)
            m.bias.copy_(-LEVEL * repeated(CONSTANTS, m.num_channels, m.bias.device))
        elif hasattr(m, "to_out"):
            m.to_out[0].weight.mul_(BRANCH)
            m.to_out[0].bias.zero_()
    n, eye = net.c["latent_channels"], lambda n: torch.eye(n)[:, :, None, None, None]
    net.post_quant_conv.weight.copy_(eye(n))
    net.post_quant_conv.bias.zero_()
    net.quant_conv.weight.copy_(eye(2 * n))
    net.quant_conv.weight[n:] *= 0
    net.quant_conv.bias.zero_()
    net.quant_conv.bias[n:] = LOGVAR
    spread = net.encode(clips)[0].std((0, 2, 3, 4))
    spread[:3] = 0.6
    net.quant_conv.weight[:n] /= spread[:, None, None, None, None]
    net.post_quant_conv.weight *= spread[None, :, None, None, None]
    net.decode(net.encode(clips)[0])
    for h in hooks:
        h.remove()
