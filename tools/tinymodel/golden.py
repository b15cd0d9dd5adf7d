"""Writes the golden case of the whole pipeline: python3 -m tinymodel.golden CHECKPOINT FILE

The weights are those of the checkpoint folder. Metadata: component "tiny" and cases, a list of {name, prompt, negative_prompt, seed, steps,
guidance, scheduler_scale, height, width, frames}. Tensors of each case: NAME.image u8 [H, W, 3], NAME.noise f32 [t, h, w, 16], NAME.first_frame
f32 [1, h, w, 16] (the scaled sample of the posterior), NAME.rows f32 [L, 128] and NAME.pooled f32 [64] (the encoded prompt), NAME.latents f32
[t, h, w, 16] (after the normalisation of the first frames) and NAME.frames u8 [T, H, W, 3]."""
import json
import sys

import torch

from . import evaluate, safe, sizes, words
from .reference import Reference

CASES = [
    {"name": "english", "prompt": "A red circle moves to the right.", "negative_prompt": words.NEGATIVE, "seed": 7, "steps": 10, "guidance": 2.0,
     "scheduler_scale": sizes.SHIFT, "height": 64, "width": 64, "frames": 25},
    {"name": "russian", "prompt": "фиолетовый треугольник растёт", "negative_prompt": words.NEGATIVE, "seed": 1137, "steps": 12, "guidance": 1.0,
     "scheduler_scale": sizes.SHIFT, "height": 64, "width": 96, "frames": 25}]
SHOWN = {
    "english": {"shape": "circle", "color": "red", "background": "navy", "motion": "right", "x": 0.28, "y": 0.5, "r": 0.15, "turn": 0.0},
    "russian": {"shape": "triangle", "color": "purple", "background": "beige", "motion": "grows", "x": 0.5, "y": 0.5, "r": 0.13, "turn": 0.1}}


def clip(name):
    c = SHOWN[name]
    return {**c, "rgb": [float(v) for v in words.COLORS[c["color"]]], "back": [float(v) for v in words.BACKGROUNDS[c["background"]]]}


def main():
    model, tensors = Reference(sys.argv[1]), {}
    for c in CASES:
        image = evaluate.first_frame(clip(c["name"]), c["height"], c["width"])
        frames, latents, noise = model.clips([image], [c["prompt"]], [c["seed"]], c["frames"], c["steps"], c["guidance"], c["scheduler_scale"],
                                             c["negative_prompt"])
        rows, _, pooled = model.text([c["prompt"]])
        found = evaluate.rates([clip(c["name"])], frames)
        print(c["name"], json.dumps(found))
        for key, value in {"image": image, "noise": noise[0], "first_frame": model.first([image], [c["seed"]]), "rows": rows[0], "pooled": pooled[0],
                           "latents": latents[0], "frames": frames[0]}.items():
            tensors[f"{c['name']}.{key}"] = torch.as_tensor(value).clone()
    safe.save(sys.argv[2], tensors, {"component": "tiny", "cases": json.dumps(CASES, ensure_ascii=False)})


if __name__ == "__main__":
    main()
