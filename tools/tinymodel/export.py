"""Writes the trained networks in the published layout."""
import json
import os

import torch

from . import safe, sizes, state, tokenizer, words


def vision(generator):
    """Random weights of the smallest vision tower: text encoding never uses it."""
    v, out = sizes.VISION, {}
    h, f, merged = v["hidden_size"], v["intermediate_size"], v["hidden_size"] * v["spatial_merge_size"] ** 2
    def linear(name, n, m, bias=True):
        out[f"visual.{name}.weight"] = torch.randn(n, m, generator=generator) * m ** -0.5
        if bias:
            out[f"visual.{name}.bias"] = torch.zeros(n)
    out["visual.patch_embed.proj.weight"] = torch.randn(h, 3, 2, 14, 14, generator=generator) * 1176 ** -0.5
    for i in range(v["depth"]):
        out[f"visual.blocks.{i}.norm1.weight"] = out[f"visual.blocks.{i}.norm2.weight"] = torch.ones(h)
        linear(f"blocks.{i}.attn.qkv", 3 * h, h)
        linear(f"blocks.{i}.attn.proj", h, h)
        linear(f"blocks.{i}.mlp.gate_proj", f, h)
        linear(f"blocks.{i}.mlp.up_proj", f, h)
        linear(f"blocks.{i}.mlp.down_proj", h, f)
    out["visual.merger.ln_q.weight"] = torch.ones(h)
    linear("merger.mlp.0", merged, merged)
    linear("merger.mlp.2", v["out_hidden_size"], merged)
    return out


def export(work, folder):
    """work: the folder of a training. Weights are rounded: transformer and Qwen to bf16, VAE and CLIP to fp16."""
    qwen, clip = tokenizer.load(work)
    trained, vae = state.load(f"{work}/dit.done.pt"), state.load(f"{work}/vae.done.pt")
    part = lambda prefix, dtype: {k[len(prefix):]: v.to(dtype) for k, v in trained.items() if k.startswith(prefix)}
    write = tokenizer.write_json
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2", "scheduler"):
        os.makedirs(f"{folder}/{name}", exist_ok=True)
    tokenizer.save(folder, qwen, clip)
    words.write_holdout(folder)
    meta = {"format": "pt"}
    safe.save(f"{folder}/transformer/diffusion_pytorch_model.safetensors", part("dit.", torch.bfloat16), meta)
    safe.save(f"{folder}/vae/diffusion_pytorch_model.safetensors", vae, meta)
    tower = {k: v.bfloat16() for k, v in vision(torch.Generator().manual_seed(3)).items()}
    safe.save(f"{folder}/text_encoder/model.safetensors", {**part("qwen.", torch.bfloat16), **tower}, meta)
    safe.save(f"{folder}/text_encoder_2/model.safetensors", part("clip.", torch.float16), meta)
    write(f"{folder}/transformer/config.json", {"_class_name": "Kandinsky5Transformer3DModel", **sizes.DIT})
    blocks = lambda name: [name] * 4
    write(f"{folder}/vae/config.json", {"_class_name": "AutoencoderKLHunyuanVideo", **sizes.VAE, "act_fn": "silu", "down_block_types": blocks("HunyuanVideoDownBlock3D"),
                                        "up_block_types": blocks("HunyuanVideoUpBlock3D"), "mid_block_add_attention": True})
    at = qwen.base
    write(f"{folder}/text_encoder/config.json", {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "vision_config": sizes.VISION, "image_token_id": at + 12,
        "video_token_id": at + 13, "vision_start_token_id": at + 9, "vision_end_token_id": at + 10, "bos_token_id": at, "eos_token_id": at + 2,
        "tie_word_embeddings": True, **sizes.qwen(qwen.size)})
    write(f"{folder}/text_encoder/generation_config.json", {"do_sample": True, "temperature": 1e-6, "repetition_penalty": 1.05, "bos_token_id": at,
                                                           "pad_token_id": at, "eos_token_id": [at + 2, at]})
    write(f"{folder}/text_encoder_2/config.json", {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_act": "quick_gelu",
                                                  **sizes.clip(clip.size)})
    write(f"{folder}/scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 5.0})
    write(f"{folder}/model_index.json", {
        "_class_name": "Kandinsky5I2VPipeline", "transformer": ["diffusers", "Kandinsky5Transformer3DModel"], "vae": ["diffusers", "AutoencoderKLHunyuanVideo"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"], "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
        "text_encoder_2": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "Qwen2VLProcessor"], "tokenizer_2": ["transformers", "CLIPTokenizer"]})
    total = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(folder) for f in files)
    print(json.dumps({"exported": folder, "bytes": total}))
