"""Trains the transformer together with both text encoders: rectified flow (x_t = (1 - t) x_0 + t noise, velocity noise - x_0) on all latent frames
but the first, which is given clean. A step is recorded once as a CUDA graph per picture size and then replayed."""
import time

import torch
from torch import nn

from . import data, export, sizes, state, tokenizer, words
from .dit import DiT
from .pool import Pool, Texts
from .text import CLIP, Qwen
from .vae import VAE

# frames, height, width, clips in the pool, clips of a batch, weight
POOLS = [(25, 64, 64, 40960, 256, 5), (25, 128, 128, 6144, 64, 2), (25, 64, 96, 8192, 160, 1), (25, 96, 64, 8192, 160, 1), (49, 64, 64, 6144, 128, 0.7)]
PEAK, DROP, DECAY = 1.5e-3, 0.06, 0.9993


class Model(nn.Module):
    def __init__(self, texts):
        super().__init__()
        self.dit, self.qwen, self.clip = DiT(sizes.DIT), Qwen(sizes.qwen(texts.qwen.size)), CLIP(sizes.clip(texts.clip.size))
        nn.init.normal_(self.qwen.model.embed_tokens.weight, std=0.5)
        nn.init.normal_(self.clip.text_model.embeddings.token_embedding.weight, std=0.5)
        nn.init.normal_(self.clip.text_model.embeddings.position_embedding.weight, std=0.1)
        self.register_buffer("prefix", torch.tensor([texts.qwen.encode(words.TEMPLATE)]), persistent=False)

    def text(self, ids, lengths, clip_ids):
        _, past = self.qwen(self.prefix)
        rows, _ = self.qwen(ids, past)
        mask = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
        return rows, mask, self.clip(clip_ids)[1]

    def velocity(self, latents, first, time, rows, mask, pooled):
        """latents [B, T, h, w, 16] with the clean first frame put in."""
        x = torch.cat((first[:, None], latents[:, 1:]), 1)
        flag = torch.zeros_like(x[..., :1])
        flag[:, 0] = 1
        return self.dit(torch.cat((x, torch.zeros_like(x), flag), -1), rows, pooled, 1000 * time, mask, sizes.SCALE_FACTOR)


class Trainer:
    def __init__(self, folder, device, small, out):
        self.folder, self.device, self.small, self.out = folder, device, small, out
        self.log = state.Log(f"{folder}/log.jsonl")
        self.texts = Texts(*tokenizer.load(folder))
        torch.manual_seed(2)
        self.model = Model(self.texts).to(device)
        self.params = list(self.model.parameters())
        self.average = [p.detach().clone() for p in self.params]
        self.rate = torch.tensor(PEAK, device=device)
        fast = {"fused": True, "capturable": True} if device == "cuda" else {}
        self.optimizer = torch.optim.AdamW(self.params, lr=self.rate if device == "cuda" else PEAK, betas=(0.9, 0.98), weight_decay=0.01, **fast)
        self.step, self.spent = 0, 0.0
        self.dropped = [torch.tensor(v, device=device) for v in zip(self.texts.ids(words.NEGATIVE), self.texts.ids(""))]
        self.resume()

    def resume(self):
        saved = state.load(f"{self.folder}/dit.pt")
        if saved:
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.average = [a.to(self.device) for a in saved["average"]]
            self.step, self.spent = saved["step"], saved["spent"]

    def save(self):
        state.save(f"{self.folder}/dit.pt", {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "average": self.average,
                                            "step": self.step, "spent": self.spent})
        names = [k for k, _ in self.model.named_parameters()]
        state.save(f"{self.folder}/dit.done.pt", {k: a.cpu() for k, a in zip(names, self.average)})
        export.export(self.folder, self.out)

    def pools(self):
        vae = VAE(sizes.VAE).to(self.device)
        vae.load_state_dict({k: v.float() for k, v in state.load(f"{self.folder}/vae.done.pt").items()})
        vae.eval().requires_grad_(False)
        for i, (t, h, w, count, n, weight) in enumerate(POOLS):
            if self.small:
                t, h, w, count, n = t, h // 2, w // 2, 16, 4
            begin = time.monotonic()
            pool = Pool(vae, self.texts, t, h, w, count, 4, 100 + i, self.device)
            self.log(stage="pool", size=[t, h, w], count=count, took=time.monotonic() - begin, std=pool.latents.float().std().item())
            yield pool, n, weight

    def loss(self, pool, n):
        latents, first, ids, lengths, clip_ids = pool.batch(n)
        r = torch.rand(n, device=self.device)
        for k in range(2):
            away = (r >= k * DROP) & (r < (k + 1) * DROP)
            ids = torch.where(away[:, None], self.dropped[0][k], ids)
            lengths = torch.where(away, self.dropped[1][k], lengths)
            clip_ids = torch.where(away[:, None], self.dropped[2][k], clip_ids)
        u = torch.rand(n, device=self.device)
        t = torch.where(torch.rand(n, device=self.device) < 0.75, sizes.SHIFT * u / (1 + (sizes.SHIFT - 1) * u), u)
        noise = torch.randn_like(latents)
        at = t[:, None, None, None, None]
        with state.half(self.device, torch.bfloat16):
            rows, mask, pooled = self.model.text(ids, lengths, clip_ids)
            v = self.model.velocity((1 - at) * latents + at * noise, first, t, rows, mask, pooled)
        return (v.float() - (noise - latents))[:, 1:].square().mean()

    def update(self, pool, n):
        loss = self.loss(pool, n)
        loss.backward()
        nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_mul_(self.average, DECAY)
            torch._foreach_add_(self.average, [p.detach() for p in self.params], alpha=1 - DECAY)
        return loss.detach()

    def record(self, pool, n):
        def plain():
            self.optimizer.zero_grad(set_to_none=True)
            return self.update(pool, n)
        return state.recorded(plain, self.optimizer, lambda: self.update(pool, n), self.device, pool)

    def run(self, seconds):
        self.rate.fill_(1e-6)
        steps = [(self.record(pool, n), weight) for pool, n, weight in self.pools()]
        rng, clock, kept = data.rng(self.step), state.Clock(seconds, self.spent), self.spent
        self.log(stage="dit", step=self.step, seconds=self.spent, ready=True)
        while clock.tick():
            rate = state.cosine(clock.fraction, PEAK)
            if self.device == "cuda":
                self.rate.fill_(rate)
            else:
                self.optimizer.param_groups[0]["lr"] = rate
            losses = [rng.choices([s for s, _ in steps], [w for _, w in steps])[0]() for _ in range(1 if self.small else 10)]
            self.step += len(losses)
            self.spent = clock.spent
            if self.step % 200 == 0 or self.small:
                self.log(stage="dit", step=self.step, seconds=clock.spent, loss=losses[-1].item(), rate=rate)
            elif self.device == "cuda":
                torch.cuda.synchronize()
            if clock.spent - kept > 45:
                kept = clock.spent
                self.save()
        self.save()
        self.log(stage="dit done", step=self.step, seconds=clock.spent)


def train(folder, seconds, device, small=False, out=None):
    """Ends with an export to the folder out, by default checkpoint in the training's folder."""
    Trainer(folder, device, small, out or f"{folder}/checkpoint").run(seconds)
