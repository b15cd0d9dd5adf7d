"""Compares this folder's networks with golden cases of the public reference: python3 -m tinymodel.check_golden FOLDER"""
import json
import sys

import torch

from . import resize, rng, safe, sampler
from .dit import DiT
from .text import CLIP, Qwen
from .vae import VAE


def judge(name, out, want, limit):
    error = ((out.double() - want.double()).norm() / want.double().norm()).item()
    print(f"{'ok ' if error <= limit else 'BAD'} {name}: {error:.1e}")
    if not error <= limit:
        sys.exit(f"{name} differs from the reference")


def weights(tensors):
    return {k[len("weights."):]: v.float() for k, v in tensors.items() if k.startswith("weights.")}


def dit(folder, case):
    t, meta = safe.load(f"{folder}/{case}.safetensors")
    net = DiT(json.loads(meta["config"]))
    net.load_state_dict(weights(t))
    trace = {}
    mask = t["in.attention_mask"].bool().reshape(1, -1)
    net(t["in.x"].float()[None], t["in.text_embeds"].float().reshape(1, mask.shape[1], -1), t["in.pooled_embed"].float().reshape(1, -1),
        t["in.time"].float().reshape(1), mask, json.loads(meta["scale_factor"]), trace)
    for name in (n for n in trace if f"f32.{n}" in t):
        want = t[f"f32.{name}"].float()
        judge(f"{case} {name}", trace[name].reshape(want.shape), want, 2e-5)


def vae(folder):
    t, meta = safe.load(f"{folder}/vae.safetensors")
    c = json.loads(meta["config"])
    net = VAE(c)
    net.load_state_dict(weights(t))
    for case in json.loads(meta["cases"]):
        x = t[case[0] + ".in"].float()
        if case[1] == "enc":
            mean, logvar = net.encode(x)
            judge("vae " + case[0], mean, t[case[0] + ".out.mean"].float(), 1e-5)
            judge("vae logvar " + case[0], logvar, t[case[0] + ".out.logvar"].float(), 1e-5)
        if case[1] in ("dec", "dec_tiled") and x.shape[-1] < 9:
            judge("vae " + case[0], net.decode(x), t[case[0] + ".out"].float(), 1e-5)


def text(folder):
    t, meta = safe.load(f"{folder}/qwen.safetensors")
    net = Qwen(json.loads(meta["text_config"]))
    w = {k.replace("model.language_model.", "model."): v for k, v in weights(t).items()}
    net.load_state_dict({k: v for k, v in w.items() if k.startswith("model.") and "visual" not in k})
    out, _ = net(t["in.input_ids"].long().reshape(1, -1))
    want = t["f32.last_hidden_state_unmasked"].float()
    judge("qwen", out.reshape(want.shape), want, 1e-5)
    ids = t["in.input_ids"].long().reshape(1, -1)
    _, past = net(ids[:, :5])
    rest, _ = net(ids[:, 5:], past)
    judge("qwen in two parts", rest[0], want.reshape(out.shape)[0, 5:], 1e-5)
    t, meta = safe.load(f"{folder}/clip.safetensors")
    net = CLIP({"max_position_embeddings": 77, **json.loads(meta["config"])})
    w = weights(t)
    net.load_state_dict({k if k.startswith("text_model.") else "text_model." + k: v for k, v in w.items() if "position_ids" not in k})
    hidden, pooled = net(t["in.input_ids"].long())
    judge("clip", hidden, t["f32.last_hidden_state"].float().reshape(hidden.shape), 1e-5)
    judge("clip pooled", pooled, t["f32.pooler_output"].float().reshape(pooled.shape), 1e-5)


def sampling(folder, case):
    t, meta = safe.load(f"{folder}/{case}.safetensors")
    read = lambda key: json.loads(meta[key])
    net = DiT(read("config"))
    net.load_state_dict(weights(t))
    told = lambda prefix: (t[f"in.{prefix}text_embeds"].float(), t[f"in.{prefix}attention_mask"].bool(), t[f"in.{prefix}pooled_embed"].float())
    judge(f"{case} times", sampler.timesteps(read("steps"), read("scheduler_scale")), t["f32.timesteps"], 1e-6)
    steps = []
    sampler.denoise(net, t["in.noise"][None], t["in.first_frame"], told(""), told("null_"), read("steps"), read("guidance"), read("scheduler_scale"),
                    read("scale_factor"), steps)
    judge(f"{case} latents", torch.cat(steps), t["f32.trajectory"], 1e-5)
    judge(f"{case} first frames", sampler.normalize(t["f32.normalize_in"]), t["f32.normalize_out"], 1e-6)


def random_numbers(folder):
    t, _ = safe.load(f"{folder}/torch_cuda_randn.safetensors")
    for name in sorted({k.rsplit(".", 1)[0] for k in t}):
        seed, shape = name[4:].split(".")
        z = rng.randn(int(seed), torch.Size(int(v) for v in shape.split("x")).numel())
        judge(f"randn {name}", z[:len(t[name + ".f32_head"])], t[name + ".f32_head"], 2e-6)
        for part, slot in {"bf16_head": slice(len(t[name + ".bf16_head"])), "bf16_tail": slice(-512, None), "bf16_stride997": slice(0, None, 997)}.items():
            judge(f"randn {name} {part}", z[slot].bfloat16(), t[f"{name}.{part}"], 2e-4)


def resizing(folder):
    t, _ = safe.load(f"{folder}/resize_bilinear_antialias.safetensors")
    for k in range(len(t) // 2):
        want = t[f"{k}.out"].permute(1, 2, 0)
        out = resize.resize(t[f"{k}.in"].permute(1, 2, 0).numpy(), *want.shape[:2])
        judge(f"resize {k}", torch.from_numpy(out), want, 0)


@torch.no_grad()
def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "testdata/golden"
    for case in ("dit_full_pro", "dit_full_lite", "dit_t2v_lite"):
        dit(folder, case)
    vae(folder)
    text(folder)
    for case in ("sampler_cfg", "sampler_nocfg"):
        sampling(folder, case)
    random_numbers(folder)
    resizing(folder)


if __name__ == "__main__":
    main()
