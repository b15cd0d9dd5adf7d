"""The sizes of the tiny model's networks."""
DIT = {"in_visual_dim": 16, "out_visual_dim": 16, "in_text_dim": 128, "in_text_dim2": 64, "time_dim": 64, "patch_size": [1, 2, 2], "model_dim": 128,
       "ff_dim": 512, "num_text_blocks": 2, "num_visual_blocks": 8, "axes_dims": [8, 12, 12], "visual_cond": True}
VAE = {"in_channels": 3, "out_channels": 3, "latent_channels": 16, "block_out_channels": [16, 32, 48, 48], "layers_per_block": 1,
       "norm_num_groups": 2, "scaling_factor": 0.476986, "spatial_compression_ratio": 8, "temporal_compression_ratio": 4}
SCALE_FACTOR = (1.0, 1.0, 1.0)  # of the rotary angles
SHIFT = 5.0  # of the times, as the command line's default
TEXT_TOKENS = 48  # longest text in training; the negative prompt has about 30
QWEN_MERGES, CLIP_MERGES = 900, 700


def qwen(vocab_size):
    return {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "vocab_size": vocab_size, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}}


VISION = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "in_chans": 3, "out_hidden_size": 128, "patch_size": 14,
          "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112, "fullatt_block_indexes": [0]}


def clip(vocab_size):
    return {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": vocab_size,
            "max_position_embeddings": 77, "layer_norm_eps": 1e-5, "eos_token_id": 2, "bos_token_id": vocab_size - 2}
