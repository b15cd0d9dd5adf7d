"""The causal 3-D autoencoder with its published tensor names (diffusers, autoencoder_kl_hunyuan_video.py)."""
import torch
import torch.nn.functional as F
from torch import nn

from .attend import attend


class CausalConv(nn.Module):
    """Replicates the edge in space and the first frame in time."""

    def __init__(self, into, out, kernel=3, stride=(1, 1, 1)):
        super().__init__()
        self.kernel = kernel
        self.conv = nn.Conv3d(into, out, kernel, stride)

    def forward(self, x):
        return self.conv(x if self.kernel == 1 else F.pad(x, (1, 1, 1, 1, 2, 0), mode="replicate"))


class GroupNorm(nn.GroupNorm):
    """Keeps 16-bit tensors as they are under autocast; its sums are fp32 all the same."""

    def __init__(self, groups, channels):
        super().__init__(groups, channels, eps=1e-6)

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class ResNet(nn.Module):
    def __init__(self, into, out, groups):
        super().__init__()
        self.norm1, self.conv1 = GroupNorm(groups, into), CausalConv(into, out)
        self.norm2, self.conv2 = GroupNorm(groups, out), CausalConv(out, out)
        if into != out:
            self.conv_shortcut = CausalConv(into, out, kernel=1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class MidAttention(nn.Module):
    """One head; a query sees the keys of its own frame and of earlier ones."""

    def __init__(self, dim, groups):
        super().__init__()
        self.group_norm = GroupNorm(groups, dim)
        self.to_q, self.to_k, self.to_v = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def forward(self, x):
        b, c, t, h, w = x.shape
        y = self.group_norm(x.flatten(2)).transpose(1, 2)
        frame = torch.arange(t, device=x.device).repeat_interleave(h * w)
        mask = (frame[None, :] <= frame[:, None])[None, None]
        q, k, v = self.to_q(y)[:, None], self.to_k(y)[:, None], self.to_v(y)[:, None]
        y = attend(q, k, v, mask)[:, 0]
        return x + self.to_out[0](y).transpose(1, 2).view(b, c, t, h, w)


class MidBlock(nn.Module):
    def __init__(self, dim, groups):
        super().__init__()
        self.resnets = nn.ModuleList([ResNet(dim, dim, groups), ResNet(dim, dim, groups)])
        self.attentions = nn.ModuleList([MidAttention(dim, groups)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Sampler(nn.Module):
    """Holds the convolution of a down- or upsampler under its published name."""

    def __init__(self, dim, stride=(1, 1, 1), up=None):
        super().__init__()
        self.up = up
        self.conv = CausalConv(dim, dim, stride=stride)

    def forward(self, x):
        if self.up:
            first, rest = x[:, :, :1], x[:, :, 1:]
            first = first.repeat_interleave(2, 3).repeat_interleave(2, 4)
            if rest.shape[2]:
                rest = rest.repeat_interleave(self.up[0], 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
                first = torch.cat((first, rest), 2)
            x = first
        return self.conv(x)


class Level(nn.Module):
    def __init__(self, into, out, count, groups, down=None, up=None):
        super().__init__()
        self.resnets = nn.ModuleList(ResNet(into if i == 0 else out, out, groups) for i in range(count))
        if down:
            self.downsamplers = nn.ModuleList([Sampler(out, stride=down)])
        if up:
            self.upsamplers = nn.ModuleList([Sampler(out, up=up)])

    def forward(self, x):
        for r in self.resnets:
            x = r(x)
        for s in getattr(self, "downsamplers", []):
            x = s(x)
        for s in getattr(self, "upsamplers", []):
            x = s(x)
        return x


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        ch, g = c["block_out_channels"], c["norm_num_groups"]
        self.conv_in = CausalConv(3, ch[0])
        strides = [(1, 2, 2), (2, 2, 2), (2, 2, 2), None]
        self.down_blocks = nn.ModuleList(
            Level(ch[max(i - 1, 0)], ch[i], c["layers_per_block"], g, down=strides[i]) for i in range(4))
        self.mid_block = MidBlock(ch[-1], g)
        self.conv_norm_out = GroupNorm(g, ch[-1])
        self.conv_out = CausalConv(ch[-1], 2 * c["latent_channels"])

    def forward(self, x):
        x = self.conv_in(x)
        for b in self.down_blocks:
            x = b(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        ch, g = c["block_out_channels"][::-1], c["norm_num_groups"]
        self.conv_in = CausalConv(c["latent_channels"], ch[0])
        self.mid_block = MidBlock(ch[0], g)
        ups = [(1, 2, 2), (2, 2, 2), (2, 2, 2), None]
        self.up_blocks = nn.ModuleList(
            Level(ch[max(i - 1, 0)], ch[i], c["layers_per_block"] + 1, g, up=ups[i]) for i in range(4))
        self.conv_norm_out = GroupNorm(g, ch[-1])
        self.conv_out = CausalConv(ch[-1], 3)

    def forward(self, z):
        z = self.mid_block(self.conv_in(z))
        for b in self.up_blocks:
            z = b(z)
        return self.conv_out(F.silu(self.conv_norm_out(z)))


class VAE(nn.Module):
    """c: the published config.json. Pixels [B, 3, T, H, W] in [-1, 1]; latents [B, 16, (T-1)/4+1, H/8, W/8]."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        n = c["latent_channels"]
        self.encoder, self.decoder = Encoder(c), Decoder(c)
        self.quant_conv, self.post_quant_conv = nn.Conv3d(2 * n, 2 * n, 1), nn.Conv3d(n, n, 1)

    def encode(self, x):
        """mean and logvar of the posterior."""
        mean, logvar = self.quant_conv(self.encoder(x)).float().chunk(2, 1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, z):
        """z: latents that are not scaled."""
        return self.decoder(self.post_quant_conv(z))

    def decode_clip(self, z, tile=5, stride=2):
        """Decodes as the pipeline does: in overlapping tiles of latent frames where there are more than one tile's, blended over
        8 frames (kandinsky-5, kandinsky/models/vae.py)."""
        if z.shape[2] <= tile:
            return self.decode(z)
        tiles = []
        for start in range(0, z.shape[2] - tile + 2, stride):
            out = self.decode(z[:, :, start:start + tile])
            tiles.append(out if start == 0 else out[:, :, 1:])
        result = []
        for j, now in enumerate(tiles):
            if j > 0:
                before = tiles[j - 1]
                extent = min(8, before.shape[2], now.shape[2])
                now = now.clone()
                weight = (torch.arange(extent, device=z.device, dtype=now.dtype) / extent)[:, None, None]
                now[:, :, :extent] = before[:, :, -extent:] * (1 - weight) + now[:, :, :extent] * weight
                tiles[j] = now
            last = j == len(tiles) - 1
            result.append(now if last else now[:, :, :9 if j == 0 else 8])
        return torch.cat(result, 2)
