"""Measures what a clip shows, as package internal/shapes of the program does: where the shape is, how large, how it is turned, in which color."""
import math

import numpy as np

from . import data, words

LEAST_SHARE, LEAST_CONTRAST, LEAST_AREA = 0.25, 40, 4
PLACE, RADIUS, TURN = 0.08, 0.2, math.pi / 9  # limits at the worst frame: fractions of the side, ratio less 1, radians
SYMMETRY = {"square": 4, "triangle": 3, "star": 5, "circle": 0}


def largest(mask):
    """The largest connected part of a boolean picture."""
    h, w = mask.shape
    left, best = set(np.flatnonzero(mask).tolist()), []
    while left:
        part = [left.pop()]
        for p in part:
            for q in ((p - 1) if p % w else -1, (p + 1) if p % w < w - 1 else -1, p - w, p + w):
                if q in left:
                    left.remove(q)
                    part.append(q)
        if len(part) > len(best):
            best = part
    out = np.zeros(h * w, bool)
    out[best] = True
    return out.reshape(h, w)


def grow(mask, times):
    for _ in range(times):
        p = np.pad(mask, 1)
        mask = mask | p[:-2, 1:-1] | p[2:, 1:-1] | p[1:-1, :-2] | p[1:-1, 2:]
    return mask


def find(picture):
    """x, y, area, color, and every pixel's share in the shape; None where nothing stands out from the background."""
    im = picture.astype(np.float64)
    h, w = im.shape[:2]
    edge = np.concatenate((im[0], im[-1], im[1:-1, 0], im[1:-1, -1]))
    back = np.sort(edge, 0)[len(edge) // 2]
    contrast = np.sqrt(((im - back) ** 2).sum(-1))
    most = contrast.max()
    if most < LEAST_CONTRAST:
        return None
    part = largest(contrast > most / 2)
    direction = im[part & (contrast > 0.8 * most)].mean(0) - back if (part & (contrast > 0.8 * most)).any() else im[part].mean(0) - back
    share = ((im - back) @ direction) / (direction @ direction)
    share = np.where(grow(part, 2) & (share > LEAST_SHARE), np.minimum(1, share), 0)
    inside = part & (share > 0.9)
    area = share.sum()
    if area < LEAST_AREA:
        return None
    gy, gx = np.mgrid[:h, :w] + 0.5
    return {"x": (share * gx).sum() / area, "y": (share * gy).sum() / area, "area": area, "share": share,
            "color": im[inside if inside.any() else part].mean(0)}


def angle(found, n):
    """Argument of the n-th complex moment, divided by n."""
    h, w = found["share"].shape
    gy, gx = np.mgrid[:h, :w] + 0.5
    return np.angle((found["share"] * ((gx - found["x"]) + 1j * (gy - found["y"])) ** n).sum()) / n


def expected(motion, u, height, width):
    """How far a shape has moved (pixels), grown and turned."""
    f = (2 * u) % 1
    dx = data.SHIFT * u * width * ((motion == "right") - (motion == "left"))
    dy = data.SHIFT * u * height * ((motion == "down") - (motion == "up")) - (motion == "bounces") * data.JUMP * 4 * f * (1 - f) * height
    r = 1 + u * ((data.GROWTH - 1) * (motion == "grows") + (data.SHRINK - 1) * (motion == "shrinks"))
    return dx, dy, r, data.TURN * u * (motion == "turns")


def nearest(color):
    return min(words.COLORS, key=lambda name: np.abs(np.subtract(words.COLORS[name], color)).astype(float).__pow__(2).sum())


def judge(frames, color, shape, motion):
    """frames uint8 [T, H, W, 3] against a caption: largest deviations, the color named in most frames, and "ok"."""
    found = [find(f) for f in frames]
    lost = sum(f is None for f in found)
    if lost:
        return {"ok": False, "lost": lost, "place": math.inf, "radius": math.inf, "turn": math.inf, "color": ""}
    h, w = frames.shape[1:3]
    n, first, names = SYMMETRY[shape], found[0], []
    place = radius = turn = turned = 0.0
    before = angle(first, n) if n else 0.0
    for i, f in enumerate(found):
        dx, dy, r, a = expected(motion, i / max(1, len(found) - 1), h, w)
        place = max(place, math.hypot((f["x"] - first["x"] - dx) / w, (f["y"] - first["y"] - dy) / h))
        radius = max(radius, abs(math.sqrt(f["area"] / first["area"]) / r - 1))
        if n:
            now = angle(f, n)
            turned += math.remainder(now - before, 2 * math.pi / n)
            before = now
            turn = max(turn, abs(turned - a))
        names.append(nearest(f["color"]))
    named = max(dict.fromkeys(names), key=names.count)
    return {"ok": place <= PLACE and radius <= RADIUS and turn <= TURN and named == color, "lost": 0, "place": place, "radius": radius,
            "turn": turn, "color": named}
