"""How often clips show what their captions say: python3 -m tinymodel.evaluate CHECKPOINT [--count N] [--device cuda] [--out FOLDER]

Success is that of judge.judge in every frame. Held-out clips show pairs of color and motion that training never showed together. Chance: the
same clips judged by the caption of another motion."""
import argparse
import json
import os
import random
import time

import numpy as np

from . import data, judge, picture, words
from .reference import Reference


def cases(count, seed, held_out=True):
    """Parameters of clips, as many of each motion as there can be; circles do not turn."""
    rng = random.Random(seed)
    pairs = list(words.HELD_OUT) if held_out else sorted({(c, m) for _, c, _, m in words.allowed()})
    rng.shuffle(pairs)
    out = []
    for i in range(count):
        color, motion = pairs[i % len(pairs)]
        combos = [(s, color, b, motion) for s in words.SHAPES for b in words.BACKGROUNDS
                  if (color, b) not in words.TOO_CLOSE and not (s == "circle" and motion == "turns")]
        out.append(data.sample(rng, combos))
    return out


def plain(clip, russian=False):
    """The plainest caption."""
    if russian:
        return f"{words.russian_color(clip['color'], clip['shape'])} {words.RU_SHAPES[clip['shape']]} {words.RU[clip['motion']][0]}"
    return f"a {clip['color']} {clip['shape']} {words.EN[clip['motion']][0]}"


def first_frame(clip, height, width):
    """uint8 [H, W, 3]."""
    x = data.render([clip], 1, height, width, "cpu")[0, :, 0].permute(1, 2, 0)
    return ((x + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def run(model, clips, height, width, frames=25, steps=12, guidance=5.0, russian=False, batch=16, prompts=None, seed=1000):
    """Frames of every clip."""
    prompts, out = prompts or [plain(c, russian) for c in clips], []
    images = [first_frame(c, height, width) for c in clips]
    for at in range(0, len(clips), batch):
        part = slice(at, min(at + batch, len(clips)))
        out.append(model.clips(images[part], prompts[part], list(range(seed + part.start, seed + part.stop)), frames, steps, guidance)[0])
    return np.concatenate(out)


def follows(verdict):
    """Whether place, size and turn are right, in whatever color."""
    return verdict["place"] <= judge.PLACE and verdict["radius"] <= judge.RADIUS and verdict["turn"] <= judge.TURN


def rates(clips, shown):
    """Shares of clips that are right, and the mean of their worst deviations."""
    v = [judge.judge(f, c["color"], c["shape"], c["motion"]) for c, f in zip(clips, shown)]
    finite = lambda key: float(np.mean([min(1.0, r[key]) for r in v]))
    return {
        "clips": len(v), "success": float(np.mean([r["ok"] for r in v])), "motion": float(np.mean([follows(r) for r in v])),
        "color": float(np.mean([r["color"] == c["color"] for r, c in zip(v, clips)])),
        "place": finite("place"), "radius": finite("radius"), "turn": finite("turn"),
        "failed": [f"{i}:{c['shape']} {c['color']} {c['motion']}" for i, (r, c) in enumerate(zip(v, clips)) if not r["ok"]][:12]}


SETTINGS = [  # name, height, width, frames, steps, guidance, Russian, held out
    ("64, guidance 5", 64, 64, 25, 12, 5.0, False, True), ("64, guidance 1", 64, 64, 25, 12, 1.0, False, True),
    ("64, guidance 3", 64, 64, 25, 12, 3.0, False, True), ("64, Russian", 64, 64, 25, 12, 5.0, True, True),
    ("64, seen pairs", 64, 64, 25, 12, 5.0, False, False), ("64, 8 steps", 64, 64, 25, 8, 5.0, False, True),
    ("64, 16 steps", 64, 64, 25, 16, 5.0, False, True), ("64, 24 steps", 64, 64, 25, 24, 5.0, False, True),
    ("64, 2 seconds", 64, 64, 49, 12, 5.0, False, True), ("96x64", 64, 96, 25, 12, 5.0, False, True),
    ("128, guidance 5", 128, 128, 25, 12, 5.0, False, True), ("128, guidance 1", 128, 128, 25, 12, 1.0, False, True)]


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("checkpoint")
    a.add_argument("--count", type=int, default=32)
    a.add_argument("--device", default="cpu")
    a.add_argument("--out")
    a.add_argument("--only", help="settings whose name begins so, separated by semicolons")
    args = a.parse_args()
    model, table = Reference(args.checkpoint, args.device), []
    for name, h, w, frames, steps, guidance, russian, held in SETTINGS:
        if args.only and not any(name.startswith(p) for p in args.only.split(";")):
            continue
        count = args.count if h * w <= 6144 else max(8, args.count // 4)
        begin, clips = time.time(), cases(count, 5, held)
        shown = run(model, clips, h, w, frames, steps, guidance, russian, 16 if h < 128 else 4)
        row = {"setting": name, **rates(clips, shown), "seconds": time.time() - begin}
        if name == "64, guidance 5":  # what captions of the next clip's motion would score
            other = [{**c, "motion": words.MOTIONS[(words.MOTIONS.index(c["motion"]) + 1 + i % 8) % 9]} for i, c in enumerate(clips)]
            row["chance"] = rates(other, shown)["success"]
        table.append(row)
        print(json.dumps(row), flush=True)
        if args.out:
            os.makedirs(args.out, exist_ok=True)
            picture.write(f"{args.out}/{name.replace(', ', '-').replace(' ', '-')}.png", picture.sheet(shown[:8]))
            with open(f"{args.out}/evaluation.json", "w") as f:
                json.dump(table, f, indent=1)


if __name__ == "__main__":
    main()
