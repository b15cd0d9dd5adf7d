"""The exported model in fp32: from a picture and a prompt to frames, as the pipeline goes (kandinsky-5, kandinsky/i2v_pipeline.py)."""
import json

import numpy as np
import torch

from . import rng, safe, sampler, sizes, tokenizer, words
from .dit import DiT
from .text import CLIP, Qwen
from .vae import VAE


def read(folder, part, stem):
    with open(f"{folder}/{part}/config.json") as f:
        config = json.load(f)
    return config, {k: v.float() for k, v in safe.load(f"{folder}/{part}/{stem}.safetensors")[0].items()}


class Reference:
    def __init__(self, folder, device="cpu"):
        self.device = device
        def built(part, stem, make, keep=lambda name: True):
            config, weights = read(folder, part, stem)
            net = make(config)
            net.load_state_dict({k: v for k, v in weights.items() if keep(k)})
            return net.to(device).eval().requires_grad_(False)
        self.dit = built("transformer", "diffusion_pytorch_model", DiT)
        self.vae = built("vae", "diffusion_pytorch_model", VAE)
        self.qwen = built("text_encoder", "model", Qwen, lambda name: name.startswith("model."))
        self.clip = built("text_encoder_2", "model", CLIP)
        self.qwen_tokens, self.clip_tokens = tokenizer.load(folder)
        self.crop = len(self.qwen_tokens.encode(words.TEMPLATE))
        self.factor = self.vae.c["scaling_factor"]

    @torch.no_grad()
    def text(self, prompts):
        """Rows of the prompts [B, L, width], their mask [B, L] and the pooled vectors [B, width]."""
        ids = [self.qwen_tokens.encode(words.TEMPLATE + p + words.CLOSING)[:256 + self.crop] for p in prompts]
        n = max(len(i) for i in ids)
        padded = torch.tensor([i + [self.qwen_tokens.base] * (n - len(i)) for i in ids], device=self.device)
        mask = torch.tensor([[k < len(i) for k in range(n)] for i in ids], device=self.device)
        rows, _ = self.qwen(padded)
        _, pooled = self.clip(torch.tensor([self.clip_tokens.sequence(p) for p in prompts], device=self.device))
        return rows[:, self.crop:], mask[:, self.crop:], pooled

    @torch.no_grad()
    def first(self, images, seeds):
        """uint8 [B, H, W, 3] -> first latent frames, a sample of the posterior, [B, h, w, 16]."""
        x = torch.from_numpy(np.stack(images)).to(self.device).float().permute(0, 3, 1, 2)[:, :, None] / 127.5 - 1
        mean, logvar = self.vae.encode(x)
        c, h, w = mean.shape[1], *mean.shape[3:]
        noise = torch.cat([rng.posterior_noise(s, c, h, w) for s in seeds]).to(self.device)
        return ((mean + (0.5 * logvar).exp() * noise) * self.factor)[:, :, 0].permute(0, 2, 3, 1)

    @torch.no_grad()
    def clips(self, images, prompts, seeds, frames=25, steps=12, guidance=5.0, scale=sizes.SHIFT, negative=words.NEGATIVE):
        """Clips of one size, started from pictures uint8 [B, H, W, 3]: frames uint8 [B, T, H, W, 3], latents and noise [B, t, h, w, 16]."""
        height, width = images[0].shape[:2]
        shape = ((frames - 1) // 4 + 1, height // 8, width // 8, self.vae.c["latent_channels"])
        noise = torch.stack([rng.latent_noise(s, shape) for s in seeds]).to(self.device)
        first, prompt = self.first(images, seeds), self.text(prompts)
        away = [v.expand(len(images), *v.shape[1:]) for v in self.text([negative])] if abs(guidance - 1) > 1e-6 else None
        latents = sampler.denoise(self.dit, noise, first, prompt, away, steps, guidance, scale, sizes.SCALE_FACTOR)
        return self.decode(latents), latents, noise

    def decode(self, latents):
        """Scaled latents [B, t, h, w, 16] -> frames uint8 [B, T, H, W, 3]."""
        y = torch.cat([self.vae.decode_clip(z) for z in (latents / self.factor).permute(0, 4, 1, 2, 3).split(8)])
        return ((y.clamp(-1, 1) + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 4, 1).cpu().numpy()
