"""python3 -m tinymodel.train STAGE --work FOLDER [--out FOLDER] [--vae-seconds N] [--dit-seconds N] [--small]

STAGE: tokenizers, vae, dit, export, or all. A stage that was cut off goes on where it was, and dit exports every 45 seconds what it has. --small is
for trying the code on a CPU.
"""
import argparse
import os

import torch

from . import export, sizes, tokenizer, train_dit, train_vae, words


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("stage", choices=["tokenizers", "vae", "dit", "export", "all"])
    a.add_argument("--work", required=True)
    a.add_argument("--out")
    a.add_argument("--vae-seconds", type=float, default=300)
    a.add_argument("--dit-seconds", type=float, default=400)
    a.add_argument("--small", action="store_true")
    args = a.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    os.makedirs(args.work, exist_ok=True)
    out = args.out or f"{args.work}/checkpoint"
    stages = ["tokenizers", "vae", "dit", "export"] if args.stage == "all" else [args.stage]
    for stage in stages:
        if stage == "tokenizers":
            tokenizer.save(args.work, tokenizer.train_qwen(words.corpus(), sizes.QWEN_MERGES), tokenizer.train_clip(words.corpus(), sizes.CLIP_MERGES))
        elif stage == "vae" and not os.path.exists(f"{args.work}/vae.done.pt"):
            train_vae.train(args.work, args.vae_seconds, device, args.small)
        elif stage == "dit":
            train_dit.train(args.work, args.dit_seconds, device, args.small, out)
        elif stage == "export":
            export.export(args.work, out)


if __name__ == "__main__":
    main()
