#!/usr/bin/env python3
"""Measures PyTorch and vkandinsky on the same machine, one after the other, and prints what each gives.

    python3 tools/peers/peers.py --vkandinsky ./vkandinsky
    python3 tools/peers/peers.py --vkandinsky ./vkandinsky --only linear,copy --json peers.json

Needs PyTorch with CUDA, and nothing else; no weights are read. What is compared, in bf16, at the shapes of the 20B model
(47,616 tokens of 4,096 features unless --tokens says otherwise):

    linear     4096→16384, 16384→4096 and 4096→4096, with bias
    attention  scaled_dot_product_attention of 32 heads of 128, the faster of FlashAttention and cuDNN
    block      one visual block: norms, projections, rotation, self- and cross-attention, feed-forward network; eager, and
               with torch.compile where --compile is given
    copy       584 MiB between pinned host memory and the device, both ways

A ratio of 2 means that vkandinsky is twice as fast. Without --vkandinsky PyTorch is measured alone. A part that fails is named
and left out, and the exit status is 1. All of it takes about a minute, most of it starting programs and compiling.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time

WIDTH, FF, HEADS, HEAD_DIM, TEXT_ROWS = 4096, 16384, 32, 128, 256
BLOCK_BYTES = 584 << 20
PARTS = ("linear", "attention", "block", "copy")


def clock(torch, work, least_ms):
    """Returns the seconds that work takes on the device, once it is warm."""

    def run(times):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(times):
            work()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end)

    run(1)
    one = run(1)
    times = min(2000, int(least_ms / max(one, 1e-3)) + 1)
    return run(times) / times / 1e3


def linear(torch, tokens, least):
    out = {}
    for k, n in ((WIDTH, FF), (FF, WIDTH), (WIDTH, WIDTH)):
        x = torch.randn(tokens, k, device="cuda", dtype=torch.bfloat16)
        w = torch.randn(n, k, device="cuda", dtype=torch.bfloat16) / k**0.5
        b = torch.randn(n, device="cuda", dtype=torch.bfloat16)
        seconds = clock(torch, lambda: torch.nn.functional.linear(x, w, b), least)
        out[f"linear {k}→{n}"] = {"seconds": seconds, "operations": 2 * tokens * k * n}
    return out


def attention(torch, tokens, least):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q, k, v = (torch.randn(1, HEADS, tokens, HEAD_DIM, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    out = {}
    for name, backend in (("FlashAttention", SDPBackend.FLASH_ATTENTION), ("cuDNN", SDPBackend.CUDNN_ATTENTION)):
        try:
            with sdpa_kernel(backend):
                seconds = clock(torch, lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v), least)
        except RuntimeError as error:
            print(f"attention with {name} is not there: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        out[f"attention, {name}"] = {"seconds": seconds, "operations": 4 * HEADS * tokens * tokens * HEAD_DIM}
    return out


def make_block(torch):
    """Returns a visual block as the model has it: shapes and order of the work, made-up weights."""
    nn, functional = torch.nn, torch.nn.functional

    def heads(x):
        return x.view(x.shape[0], HEADS, HEAD_DIM).transpose(0, 1).unsqueeze(0)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
            self.query_norm, self.key_norm = nn.RMSNorm(HEAD_DIM), nn.RMSNorm(HEAD_DIM)

        def forward(self, x, context, rotation):
            q, k, v = heads(self.query(x)), heads(self.key(context)), heads(self.value(context))
            q, k = self.query_norm(q.float()).type_as(q), self.key_norm(k.float()).type_as(k)
            if rotation is not None:
                q, k = rotate(q, rotation), rotate(k, rotation)
            y = functional.scaled_dot_product_attention(q, k, v)
            return self.out(y.squeeze(0).transpose(0, 1).reshape(x.shape[0], WIDTH))

    def rotate(x, rotation):
        cos, sin = rotation
        a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).type_as(x)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = nn.ModuleList(nn.LayerNorm(WIDTH, elementwise_affine=False) for _ in range(3))
            self.modulation = nn.Linear(1024, 9 * WIDTH)
            self.own, self.cross = Attention(), Attention()
            self.widen, self.narrow = nn.Linear(WIDTH, FF, bias=False), nn.Linear(FF, WIDTH, bias=False)

        def forward(self, x, text, time, rotation):
            parts = self.modulation(functional.silu(time)).float().view(9, WIDTH)

            def normed(k, x):
                return (self.norms[k](x.float()) * (1 + parts[3 * k + 1]) + parts[3 * k]).type_as(x)

            def add(k, x, y):
                return (x.float() + parts[3 * k + 2] * y.float()).type_as(x)

            h = normed(0, x)
            x = add(0, x, self.own(h, h, rotation))
            x = add(1, x, self.cross(normed(1, x), text, None))
            return add(2, x, self.narrow(functional.gelu(self.widen(normed(2, x)))))

    with torch.device("cuda"):  # numbers are drawn there, which takes seconds elsewhere
        block = Block().to(torch.bfloat16)
    for module in block.modules():
        if isinstance(module, nn.RMSNorm):
            module.float()
    return block


def block(torch, tokens, least, compiled):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    model = make_block(torch)
    x = torch.randn(tokens, WIDTH, device="cuda", dtype=torch.bfloat16)
    text = torch.randn(TEXT_ROWS, WIDTH, device="cuda", dtype=torch.bfloat16)
    moment = torch.randn(1024, device="cuda", dtype=torch.bfloat16)
    angles = torch.rand(tokens, HEAD_DIM // 2, device="cuda") * 6.28
    rotation = (angles.cos(), angles.sin())
    operations = 2 * tokens * (6 * WIDTH * WIDTH + 2 * WIDTH * FF) + 2 * TEXT_ROWS * 2 * WIDTH * WIDTH
    operations += 4 * tokens * (tokens + TEXT_ROWS) * WIDTH
    out = {}
    variants = [("eager", model)] + ([("compiled", torch.compile(model))] if compiled else [])
    with torch.no_grad(), sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True):
        for name, f in variants:
            seconds = clock(torch, lambda: f(x, text, moment, rotation), least)
            out[f"visual block, {name}"] = {"seconds": seconds, "operations": operations}
    return out


def copy(torch, least):
    host = torch.empty(BLOCK_BYTES, dtype=torch.uint8, pin_memory=True)
    device = torch.empty(BLOCK_BYTES, dtype=torch.uint8, device="cuda")
    up = clock(torch, lambda: device.copy_(host, non_blocking=True), least)
    down = clock(torch, lambda: host.copy_(device, non_blocking=True), least)
    return {"copy up": {"seconds": up, "bytes": BLOCK_BYTES}, "copy down": {"seconds": down, "bytes": BLOCK_BYTES}}


def pytorch(args):
    try:
        import torch
    except ImportError as error:
        sys.exit(f"peers: PyTorch is missing: {error}")
    if not torch.cuda.is_available():
        sys.exit("peers: PyTorch sees no CUDA device")
    print(f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}", file=sys.stderr)
    out = {}
    measures = {
        "linear": lambda: linear(torch, args.tokens, args.least),
        "attention": lambda: attention(torch, args.tokens, args.least),
        "block": lambda: block(torch, args.tokens, args.least, args.compile),
        "copy": lambda: copy(torch, args.least),
    }
    for part in args.only:
        with told(f"PyTorch: {part}", args):
            out.update(measures[part]())
        torch.cuda.empty_cache()
    return out


class told:
    """Says what is measured and how long it took. A failure of it is told, counted and goes no further."""

    def __init__(self, what, args):
        self.what, self.args = what, args

    def __enter__(self):
        self.begin = time.monotonic()

    def __exit__(self, kind, error, trace):
        took = f"{time.monotonic() - self.begin:.1f} s"
        if kind is None:
            print(f"{self.what}: {took}", file=sys.stderr)
            return False
        if not issubclass(kind, Exception):  # an interruption ends all
            return False
        first = f"{kind.__name__}: {error}".strip().splitlines()[0]
        print(f"{self.what}: failed after {took}: {first}", file=sys.stderr)
        self.args.failed.append(self.what)
        return True


def ask(args, *words):
    """Runs vkandinsky bench and returns its JSON."""
    line = [args.vkandinsky, "bench", *words, "--json", "--quiet"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(line)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return json.loads(done.stdout)


def our_linear(args, least):
    shapes = [(FF, WIDTH), (WIDTH, FF), (WIDTH, WIDTH)]
    runs = ask(args, "matmul", least, *(f"--shape={args.tokens}x{n}x{k}" for n, k in shapes))["runs"]
    return {f"linear {k}→{n}": run["ns"] / 1e9 for (n, k), run in zip(shapes, runs, strict=True)}


def our_attention(args, least):
    run = ask(args, "attention", least, f"--shape={HEADS}x{args.tokens}x{args.tokens}x{HEAD_DIM}")["runs"][0]
    return {"attention": run["ns"] / 1e9}


def our_block(args, _):
    if args.tokens != TOKENS:
        return {}
    report = ask(args, "step", "--config", "config_5s_i2v_pro_20b", "--synthetic", "--blocks=2", "--resident", "--passes=3")
    return {"visual block": report["timing"]["compute_ns"] / report["timing"]["blocks"] / 1e9}


def our_copy(args, least):
    runs = ask(args, "copy", least, f"--size={BLOCK_BYTES}", "--memory=cached")["runs"]
    return {"copy up" if run["up"] else "copy down": run["bytes"] / run["idle_bytes_per_second"] for run in runs}


def vkandinsky(args):
    """Returns vkandinsky's seconds by the first words of PyTorch's names."""
    out, measures = {}, {"linear": our_linear, "attention": our_attention, "block": our_block, "copy": our_copy}
    for part in args.only:
        with told(f"vkandinsky: {part}", args):
            out.update(measures[part](args, f"--least={args.least}ms"))
    return out


def rate(entry, seconds):
    if "bytes" in entry:
        return f"{entry['bytes'] / seconds / 1e9:.1f} GB/s"
    return f"{entry['operations'] / seconds / 1e12:.0f} TFLOP/s"


def report(peers, ours):
    rows = [("", "PyTorch", "", "vkandinsky", "", "ratio")]
    for name, entry in peers.items():
        row = [name, f"{1e3 * entry['seconds']:.2f} ms", rate(entry, entry["seconds"]), "", "", ""]
        mine = ours.get(name, ours.get(name.split(",")[0]))
        if mine:
            entry["vkandinsky_seconds"], entry["ratio"] = mine, entry["seconds"] / mine
            row[3:] = [f"{1e3 * mine:.2f} ms", rate(entry, mine), f"{entry['ratio']:.2f}"]
        rows.append(tuple(row))
    for name, seconds in ours.items():
        if not any(name in (peer, peer.split(",")[0]) for peer in peers):
            rows.append((name, "", "", f"{1e3 * seconds:.2f} ms", "", ""))
    widths = [max(len(row[k]) for row in rows) for k in range(6)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


TOKENS = 47616


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vkandinsky", metavar="PROGRAM", help="the program to compare with")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="visual tokens; the block is compared only at %(default)s")
    parser.add_argument("--only", default=",".join(PARTS), help="comma-separated parts: %(default)s")
    parser.add_argument("--least", type=int, default=300, metavar="MS", help="repeat each measurement until it took so long")
    parser.add_argument("--compile", action="store_true", help="also compile the block (takes a minute)")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := set(args.only) - set(PARTS):
        parser.error(f"--only {','.join(sorted(unknown))}: use {','.join(PARTS)}")
    if args.tokens < 1 or args.least < 1:
        parser.error("--tokens and --least are 1 or more")
    if args.vkandinsky and not shutil.which(args.vkandinsky):
        parser.error(f"--vkandinsky {args.vkandinsky}: no such program (make builds ./vkandinsky)")
    args.failed = []
    peers = pytorch(args)
    report(peers, vkandinsky(args) if args.vkandinsky else {})
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(peers, file, indent=2, ensure_ascii=False)
    if args.failed:
        sys.exit(f"peers: failed: {', '.join(args.failed)}")


if __name__ == "__main__":
    main()
