"""The sampler of image to video (kandinsky-5, kandinsky/generation_utils.py), in fp32 and in batches."""
import torch


def timesteps(steps, scale):
    """steps + 1 times from 1 to 0, shifted towards noise."""
    s = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps
    s = s.float()
    return scale * s / (1 + (scale - 1) * s)


def normalize(latents):
    """Pulls the mean and deviation of each of the first four frames of latents [T, h, w, C] towards those of frames 4 to 8."""
    reference = latents[4:4 + min(5, len(latents) - 1)]
    if not len(reference):
        return latents
    out, mean, std = latents.clone(), reference.mean(), reference.std()
    for k in range(4):
        m, s = latents[k].mean(), latents[k].std()
        out[k] = (latents[k] - m) / s * torch.maximum(torch.minimum(std, s + 0.25), s - 0.1) + torch.maximum(torch.minimum(mean, m + 0.1), m - 0.05)
    return out


def denoise(net, noise, first, prompt, negative, steps, guidance, scale, rope, trajectory=None):
    """noise [B, T, h, w, 16]; first [B, h, w, 16]; prompt, negative: (rows [B, L, D], mask [B, L], pooled [B, P]), negative None without guidance;
    rope: divisors of the angles. Returns the latents with the first frames normalised; trajectory, a list, receives them after each step."""
    x, times = noise.clone(), timesteps(steps, scale)
    flag = torch.zeros_like(x[..., :1])
    flag[:, 0] = 1
    velocity = lambda p, t: net(torch.cat((x, torch.zeros_like(x), flag), -1), p[0], p[2], t, p[1], rope)
    for i in range(steps):
        x[:, 0] = first
        time = (1000 * times[i]).expand(len(x)).to(x.device)
        v = velocity(prompt, time)
        if abs(guidance - 1) > 1e-6:
            u = velocity(negative, time)
            v = u + guidance * (v - u)
        x = x + (times[i + 1] - times[i]).to(x.device) * v
        if trajectory is not None:
            trajectory.append(x.clone())
    x[:, 0] = first
    return torch.stack([normalize(clip) for clip in x])
