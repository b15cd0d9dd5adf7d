"""Clips of one moving shape, drawn on the device.

Laws of motion over a clip, u from 0 (first frame) to 1 (last): right, left: the center moves by 0.4 of the width; up, down: by 0.4 of the
height; turns: 60 degrees clockwise; grows: the radius becomes 1.8 times as large; shrinks: half as large; bounces: twice up by 0.3 of the
height and back, 4 f (1 - f) with f the fraction of 2 u; still: nothing changes.
"""
import math
import random

import torch

from . import words

SHIFT, TURN, GROWTH, SHRINK, JUMP = 0.4, math.pi / 3, 1.8, 0.5, 0.3


def start(rng, motion):
    """Center (fractions of width and height) and radius (fraction of the shorter side) in the first frame: anywhere from where the motion
    stays inside, so that the first frame seldom betrays it."""
    x, y, r = rng.uniform(0.22, 0.78), rng.uniform(0.22, 0.78), rng.uniform(0.12, 0.18)
    if motion == "right":
        x = rng.uniform(0.18, 0.4)
    if motion == "left":
        x = rng.uniform(0.6, 0.82)
    if motion == "up":
        y = rng.uniform(0.6, 0.82)
    if motion == "down":
        y = rng.uniform(0.18, 0.4)
    if motion == "bounces":
        y = rng.uniform(0.52, 0.78)
    if motion == "grows":
        x, y, r = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(0.1, 0.15)
    if motion == "shrinks":
        r = rng.uniform(0.15, 0.22)
    return x, y, r


def sample(rng, combos):
    """A random clip's parameters."""
    shape, color, background, motion = rng.choice(combos)
    x, y, r = start(rng, motion)
    turn = rng.uniform(-0.25, 0.25) if shape != "circle" else 0.0
    tint = lambda rgb: [min(255, max(0, v + rng.uniform(-8, 8))) for v in rgb]
    return {"shape": shape, "color": color, "background": background, "motion": motion, "x": x, "y": y, "r": r, "turn": turn,
            "rgb": tint(words.COLORS[color]), "back": tint(words.BACKGROUNDS[background])}


def paths(clips, frames, device):
    """x, y, r, angle of every frame, each [B, frames]."""
    u = torch.linspace(0, 1, frames, device=device) if frames > 1 else torch.zeros(1, device=device)
    col = lambda key: torch.tensor([c[key] for c in clips], device=device)[:, None]
    is_ = lambda *names: torch.tensor([float(c["motion"] in names) for c in clips], device=device)[:, None]
    f = (2 * u) % 1
    x = col("x") + SHIFT * u * (is_("right") - is_("left"))
    y = col("y") + SHIFT * u * (is_("down") - is_("up")) - JUMP * 4 * f * (1 - f) * is_("bounces")
    r = col("r") * (1 + (GROWTH - 1) * u * is_("grows") + (SHRINK - 1) * u * is_("shrinks"))
    return x, y, r, col("turn") + TURN * u * is_("turns")


def distance(shape, px, py, r):
    """Signed distance in pixels from the outline of a shape of outer radius r; negative inside."""
    if shape == "circle":
        return torch.hypot(px, py) - r
    if shape == "square":
        return torch.maximum(px.abs(), py.abs()) - 0.82 * r
    if shape == "triangle":
        k = [torch.maximum(py, torch.maximum(0.866025 * px - 0.5 * py, -0.866025 * px - 0.5 * py)), 0.55 * r * 1.05]
        return k[0] - k[1]
    sector = 2 * math.pi / 5
    angle = torch.atan2(px, -py)
    angle = (angle + sector / 2) % sector - sector / 2
    rho = torch.hypot(px, py)
    qx, qy = rho * angle.abs().sin(), rho * angle.cos()
    inner = 0.5
    ex, ey = inner * math.sin(sector / 2), inner * math.cos(sector / 2) - 1  # from the tip to the inner corner, in radii
    n = math.hypot(ex, ey)
    return (ex * (qy - r) - ey * qx) / n


def render(clips, frames, height, width, device):
    """Frames in [-1, 1], [B, 3, frames, height, width]."""
    x, y, r, a = paths(clips, frames, device)
    x, y, r = (x * width)[..., None, None], (y * height)[..., None, None], (r * min(height, width))[..., None, None]
    gy, gx = torch.meshgrid(torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5, indexing="ij")
    dx, dy = gx - x, gy - y
    cos, sin = a.cos()[..., None, None], a.sin()[..., None, None]
    px, py = cos * dx + sin * dy, -sin * dx + cos * dy
    cover = torch.zeros_like(px)
    for shape in words.SHAPES:
        rows = [i for i, c in enumerate(clips) if c["shape"] == shape]
        if rows:
            i = torch.tensor(rows, device=device)
            cover[i] = (0.5 - distance(shape, px[i], py[i], r[i])).clamp(0, 1)
    front = torch.tensor([c["rgb"] for c in clips], device=device)[:, :, None, None, None]
    back = torch.tensor([c["back"] for c in clips], device=device)[:, :, None, None, None]
    cover = cover[:, None]
    return (back + (front - back) * cover) / 127.5 - 1


def varied(rng, count, frames, height, width, device):
    """Clips for the autoencoder: the transformer's, and a sixteenth of them over a still, soft texture."""
    combos = words.allowed()
    clips = render([sample(rng, combos) for _ in range(count)], frames, height, width, device)
    g = torch.Generator(device=device)
    g.manual_seed(rng.randrange(1 << 60))
    coarse = torch.rand(count, 3, 6, 6, generator=g, device=device) * 2 - 1
    texture = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False).clamp(-1, 1)[:, :, None]
    share = torch.rand(count, 1, 1, 1, 1, generator=g, device=device)
    share = torch.where(share < 0.0625, 6 * share, torch.zeros_like(share))
    return (1 - share) * clips + share * texture


def rng(seed):
    return random.Random(seed)
