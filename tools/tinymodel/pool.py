"""Encoded clips with their captions, on the device, from which the transformer's batches are drawn."""
import torch

from . import data, sizes, state, words


class Texts:
    """Token ids of captions, padded: the Qwen ids are those after the template, with its closing token."""

    def __init__(self, qwen, clip):
        self.qwen, self.clip = qwen, clip
        self.closing = qwen.encode(words.CLOSING)

    def ids(self, text):
        q = self.qwen.encode(text) + self.closing
        c = [self.clip.bos] + self.clip.encode(text) + [self.clip.eos]
        n = sizes.TEXT_TOKENS
        assert len(q) <= n and len(c) <= n, text
        return q + [self.qwen.base] * (n - len(q)), len(q), c + [self.clip.eos] * (n - len(c))


class Pool:
    def __init__(self, vae, texts, frames, height, width, count, captions, seed, device):
        rng, combos = data.rng(seed), words.allowed()
        latents, first, spread, q, lengths, c = [], [], [], [], [], []
        chunk = max(1, (64 * 25 * 64 * 64) // (frames * height * width))
        factor = sizes.VAE["scaling_factor"]
        with torch.no_grad(), state.half(device, torch.float16):
            for at in range(0, count, chunk):
                clips = [data.sample(rng, combos) for _ in range(min(chunk, count - at))]
                x = data.render(clips, frames, height, width, device)
                mean, _ = vae.encode(x)
                m, logvar = vae.encode(x[:, :, :1])
                last = lambda v: v.permute(0, 2, 3, 4, 1)
                latents.append((last(mean) * factor).bfloat16())
                first.append((last(m) * factor).bfloat16())
                spread.append((last((0.5 * logvar).exp()) * factor).bfloat16())
                for clip in clips:
                    said = [texts.ids(words.caption(rng, clip["shape"], clip["color"], clip["background"], clip["motion"])) for _ in range(captions)]
                    q.append([s[0] for s in said])
                    lengths.append([s[1] for s in said])
                    c.append([s[2] for s in said])
        self.latents, self.first, self.spread = torch.cat(latents), torch.cat(first), torch.cat(spread)
        self.qwen, self.lengths, self.clip = (torch.tensor(v, device=device) for v in (q, lengths, c))

    def batch(self, n):
        """Clean latents [n, T, h, w, 16], a sample of the first frame's posterior [n, h, w, 16], ids, lengths, CLIP ids."""
        device = self.latents.device
        i = torch.randint(len(self.latents), (n,), device=device)
        k = torch.randint(self.qwen.shape[1], (n,), device=device)
        first = self.first[i].float()
        first = first + self.spread[i].float() * torch.randn_like(first)
        return self.latents[i].float(), first[:, 0], self.qwen[i, k], self.lengths[i, k], self.clip[i, k]
