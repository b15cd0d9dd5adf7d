"""Trains the autoencoder: absolute and squared error of the frames, a little of the posterior's divergence from N(0, 1), and noise on the
latents so that the decoder forgives what the transformer gets wrong."""
import torch

from . import data, settle, sizes, state
from .vae import VAE

# frames, height, width, clips of a batch, clips in the bank, weight. A clip has only two colors: many small ones teach colors sooner than few large ones.
BATCHES = [(9, 32, 32, 64, 16384, 4), (17, 64, 64, 10, 3072, 4), (25, 64, 64, 6, 1024, 1.5), (1, 64, 64, 128, 16384, 1), (17, 128, 128, 2, 512, 1),
           (17, 64, 96, 6, 512, 0.5), (17, 96, 64, 6, 512, 0.5)]
PEAK, KL, NOISE, DECAY, MOST_LOGVAR, TRUNK = 7e-4, 3e-5, 0.1, 0.997, 2, 0.1
SCALE = 1024  # of the loss: gradients of a mean over a clip's pixels are below what fp16 holds


def bank(number, frames, height, width, device):
    """Clips to draw batches from, 8 bits a channel."""
    rng, chunk = data.rng(frames * height + width), 32 if frames > 1 else 256
    parts = [((data.varied(rng, min(chunk, number - at), frames, height, width, device) + 1) * 127.5).round().clamp(0, 255).byte() for at in range(0, number, chunk)]
    return torch.cat(parts)


class Trainer:
    def __init__(self, folder, device, small):
        self.folder, self.device, self.small = folder, device, small
        torch.manual_seed(1)
        self.net = VAE(sizes.VAE).to(device)
        self.params = list(self.net.parameters())
        trunk = {id(p) for p in settle.trunk(self.net)}
        groups = [([p for p in self.params if id(p) not in trunk], 1.0), ([p for p in self.params if id(p) in trunk], TRUNK)]
        fast = {"fused": True, "capturable": True} if device == "cuda" else {}
        self.optimizer = torch.optim.AdamW([{"params": ps, "share": share, "lr": torch.tensor(PEAK, device=device) if fast else PEAK} for ps, share in groups],
                                           betas=(0.9, 0.98), weight_decay=1e-3, **fast)
        self.log, self.step, self.spent = state.Log(f"{folder}/log.jsonl"), 0, 0.0
        saved = state.load(f"{folder}/vae.pt")
        if saved:
            self.net.load_state_dict(saved["net"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.average, self.step, self.spent = [a.to(device) for a in saved["average"]], saved["step"], saved["spent"]
        else:
            side = 32 if small else 64
            settle.settle(self.net, data.varied(data.rng(7), 16, 17, side, side, device))
            self.average = [p.detach().clone() for p in self.params]

    def rate(self, rate):
        """Sets the learning rate."""
        for group in self.optimizer.param_groups:
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(rate * group["share"])
            else:
                group["lr"] = rate * group["share"]

    def save(self):
        state.save(f"{self.folder}/vae.pt", {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "average": self.average,
                                            "step": self.step, "spent": self.spent})

    def update(self, clips, n):
        """One step; returns loss, mean absolute error, divergence and deviation of the latents."""
        x = clips[torch.randint(len(clips), (n,), device=self.device)].float() / 127.5 - 1
        with state.half(self.device, torch.float16):
            mean, logvar = self.net.encode(x)
            std = (0.5 * logvar.clamp(max=MOST_LOGVAR)).exp()  # fp16 ends at 65504
            z = mean + std * torch.randn_like(mean)
            spread = z.detach().std()
            y = self.net.decode(z + NOISE * spread * torch.rand(n, 1, 1, 1, 1, device=self.device) * torch.randn_like(z)).float()
        error = y - x
        kl = 0.5 * (mean.square() + logvar.clamp(max=10).exp() - 1 - logvar).mean()
        loss = error.abs().mean() + 2 * error.square().mean() + KL * kl
        (SCALE * loss).backward()
        torch._foreach_mul_([p.grad for p in self.params], 1 / SCALE)
        for p in self.params:
            p.grad.nan_to_num_(0, 0, 0)
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_mul_(self.average, DECAY)
            torch._foreach_add_(self.average, [p.detach() for p in self.params], alpha=1 - DECAY)
        return torch.stack((loss.detach(), error.detach().abs().mean() * 127.5, kl.detach(), spread))

    def record(self, clips, n):
        def plain():
            self.optimizer.zero_grad(set_to_none=True)
            return self.update(clips, n)
        return state.recorded(plain, self.optimizer, lambda: self.update(clips, n), self.device, clips)

    def run(self, seconds):
        batches = [(t, 32, 32, 2, 4, w) for t, h, _, n, _, w in BATCHES if h < 96] if self.small else BATCHES
        self.rate(1e-6)
        steps = [(self.record(bank(number, t, h, w, self.device), n), weight) for t, h, w, n, number, weight in batches]
        rng, clock, kept = data.rng(self.step), state.Clock(seconds, self.spent), self.spent
        self.log(stage="vae", step=self.step, seconds=self.spent, ready=True)
        while clock.tick():
            self.rate(state.cosine(clock.fraction, PEAK, warm=0.04))
            for _ in range(1 if self.small else 10):
                values = rng.choices([s for s, _ in steps], [w for _, w in steps])[0]()
                self.step += 1
            self.spent = clock.spent
            loss, l1, kl, std = values.tolist()
            if self.step % 100 == 0 or self.small:
                self.log(stage="vae", step=self.step, seconds=clock.spent, loss=loss, l1=l1, kl=kl, std=std)
            if clock.spent - kept > 30:
                kept = clock.spent
                self.save()
        self.save()
        names = [k for k, _ in self.net.named_parameters()]
        finish(self.folder, dict(zip(names, self.average)), self.device, self.small, self.log)


def train(folder, seconds, device, small=False):
    Trainer(folder, device, small).run(seconds)


@torch.no_grad()
def finish(folder, average, device, small, log):
    """Rescales the latents so that, times the scaling factor, each channel has mean 0 and deviation 1, by changing quant_conv and
    post_quant_conv; and stores the result rounded to fp16, as it will be published."""
    net = VAE(sizes.VAE).to(device)
    net.load_state_dict(average)
    rng, means = data.rng(777), []
    for _ in range(2 if small else 40):
        mean, _ = net.encode(data.render([data.sample(rng, data.words.allowed()) for _ in range(4 if small else 32)], 17, 64, 64, device))
        means.append(mean.transpose(0, 1).flatten(1).cpu())
    values = torch.cat(means, 1)
    mu, sigma = values.mean(1).to(device), values.std(1).to(device)
    n = sizes.VAE["latent_channels"]
    gain = 1 / (sigma * sizes.VAE["scaling_factor"])
    w, b = net.quant_conv.weight, net.quant_conv.bias
    w[:n] *= gain[:, None, None, None, None]
    b[:n] = (b[:n] - mu) * gain
    b[n:] += 2 * gain.log()
    p = net.post_quant_conv
    p.bias += p.weight[:, :, 0, 0, 0] @ mu
    p.weight *= (1 / gain)[None, :, None, None, None]
    out = {k: v.half() for k, v in net.state_dict().items()}
    net.load_state_dict({k: v.float() for k, v in out.items()})
    x = data.render([data.sample(rng, data.words.allowed()) for _ in range(4 if small else 64)], 25, 64, 64, device)
    mean, logvar = net.encode(x)
    error = (net.decode_clip(mean) - x).clamp(-2, 2)
    log(stage="vae done", l1=error.abs().mean().item() * 127.5, scaled_std=(mean * sizes.VAE["scaling_factor"]).std().item(),
        posterior_std=(0.5 * logvar).exp().mean().item() * sizes.VAE["scaling_factor"])
    state.save(f"{folder}/vae.done.pt", {k: v.cpu() for k, v in out.items()})
