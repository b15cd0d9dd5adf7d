"""Writes and reads GGUF files with ggml itself, through ctypes, to hold them against ours.

ggml.py write LIBGGML OUT    writes records.gguf: a matrix of random numbers in every type that we read, coded and decoded
                             again by ggml, with metadata of every kind
ggml.py check LIBGGML FILE   reads a file as ggml does and prints a digest of every tensor's decoded values (of -0 as 0)

LIBGGML is libggml-base.so, of 2024 or later (any build of llama.cpp has it; so has the npm package @node-llama-cpp/linux-x64).
"""
import ctypes as C
import hashlib
import sys

import numpy as np

TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q4_K": 12, "q5_K": 13, "q6_K": 14, "bf16": 30}
ROWS, COLS = 3, 256


def load(path):
    g = C.CDLL(path)
    pointer = C.c_void_p
    for name, result, args in [
        ("ggml_init", pointer, None), ("ggml_new_tensor_2d", pointer, [pointer, C.c_int, C.c_int64, C.c_int64]),
        ("ggml_set_name", pointer, [pointer, C.c_char_p]), ("ggml_get_data", pointer, [pointer]), ("ggml_nbytes", C.c_size_t, [pointer]),
        ("ggml_nelements", C.c_int64, [pointer]), ("ggml_get_first_tensor", pointer, [pointer]), ("ggml_get_next_tensor", pointer, [pointer, pointer]),
        ("ggml_get_name", C.c_char_p, [pointer]), ("ggml_type_name", C.c_char_p, [C.c_int]),
        ("ggml_quantize_chunk", C.c_size_t, [C.c_int, pointer, pointer, C.c_int64, C.c_int64, C.c_int64, pointer]),
        ("gguf_init_empty", pointer, []), ("gguf_init_from_file", pointer, None), ("gguf_add_tensor", None, [pointer, pointer]),
        ("gguf_write_to_file", C.c_bool, [pointer, C.c_char_p, C.c_bool]), ("gguf_set_val_str", None, [pointer, C.c_char_p, C.c_char_p]),
        ("gguf_set_val_u32", None, [pointer, C.c_char_p, C.c_uint32]), ("gguf_set_val_i8", None, [pointer, C.c_char_p, C.c_int8]),
        ("gguf_set_val_f64", None, [pointer, C.c_char_p, C.c_double]), ("gguf_set_val_bool", None, [pointer, C.c_char_p, C.c_bool]),
        ("gguf_set_val_u64", None, [pointer, C.c_char_p, C.c_uint64]), ("gguf_set_val_f32", None, [pointer, C.c_char_p, C.c_float]),
        ("gguf_set_arr_data", None, [pointer, C.c_char_p, C.c_int, pointer, C.c_size_t]),
        ("gguf_set_arr_str", None, [pointer, C.c_char_p, C.POINTER(C.c_char_p), C.c_size_t]),
        ("gguf_get_n_kv", C.c_int64, [pointer]), ("gguf_get_n_tensors", C.c_int64, [pointer]), ("gguf_get_alignment", C.c_size_t, [pointer]),
        ("gguf_get_tensor_name", C.c_char_p, [pointer, C.c_int64]), ("gguf_get_tensor_type", C.c_int, [pointer, C.c_int64]),
        ("ggml_fp16_to_fp32_row", None, [pointer, pointer, C.c_int64]), ("ggml_bf16_to_fp32_row", None, [pointer, pointer, C.c_int64]),
        ("ggml_fp32_to_bf16_row_ref", None, [pointer, pointer, C.c_int64]), ("ggml_fp32_to_fp16_row", None, [pointer, pointer, C.c_int64]),
    ]:
        f = getattr(g, name)
        f.restype = result
        if args is not None:
            f.argtypes = args
    return g


class InitParams(C.Structure):
    _fields_ = [("mem_size", C.c_size_t), ("mem_buffer", C.c_void_p), ("no_alloc", C.c_bool)]


class GGUFParams(C.Structure):
    _fields_ = [("no_alloc", C.c_bool), ("ctx", C.POINTER(C.c_void_p))]


def decoded(g, kind, data, n):
    out = np.empty(n, np.float32)
    if kind == "f32":
        C.memmove(out.ctypes.data, data, 4 * n)
    elif kind == "f16":
        g.ggml_fp16_to_fp32_row(data, out.ctypes.data, n)
    elif kind == "bf16":
        g.ggml_bf16_to_fp32_row(data, out.ctypes.data, n)
    else:
        f = getattr(g, "dequantize_row_" + kind)
        f.restype, f.argtypes = None, [C.c_void_p, C.c_void_p, C.c_int64]
        f(data, out.ctypes.data, n)
    return out


def write(g, path):
    rng = np.random.default_rng(5)
    values = (rng.standard_normal((ROWS, COLS)) * np.array([[1], [0.01], [30]])).astype(np.float32)
    values[0, :32] = 0  # a record of zeros
    ctx = g.ggml_init(InitParams(1 << 20, None, False))
    out = g.gguf_init_empty()
    g.gguf_set_val_str(out, b"general.architecture", b"kandinsky5-dit")
    g.gguf_set_val_i8(out, b"small", -3)
    g.gguf_set_val_f32(out, b"third", 1 / 3)
    g.gguf_set_val_f64(out, b"wide", 0.1)
    g.gguf_set_val_u64(out, b"big", 1 << 63)
    g.gguf_set_val_bool(out, b"flag", True)
    numbers = np.arange(7, dtype=np.int16)
    g.gguf_set_arr_data(out, b"numbers", 3, numbers.ctypes.data, len(numbers))
    words = (C.c_char_p * 2)(b"one", "zwölf".encode())
    g.gguf_set_arr_str(out, b"words", words, 2)
    n = values.size
    for kind, number in TYPES.items():
        t = g.ggml_new_tensor_2d(ctx, number, COLS, ROWS)
        g.ggml_set_name(t, kind.encode())
        data = g.ggml_get_data(t)
        g.ggml_quantize_chunk(number, values.ctypes.data, data, 0, ROWS, COLS, None)
        g.gguf_add_tensor(out, t)
        again = g.ggml_new_tensor_2d(ctx, 0, COLS, ROWS)
        g.ggml_set_name(again, ("decoded." + kind).encode())
        floats = decoded(g, kind, data, n)
        C.memmove(g.ggml_get_data(again), floats.ctypes.data, 4 * n)
        g.gguf_add_tensor(out, again)
    assert g.gguf_write_to_file(out, path.encode(), False)


def check(g, path):
    ctx = C.c_void_p()
    g.gguf_init_from_file.argtypes = [C.c_char_p, GGUFParams]
    f = g.gguf_init_from_file(path.encode(), GGUFParams(False, C.pointer(ctx)))
    assert f, "ggml refuses the file"
    print(g.gguf_get_n_kv(f), "values,", g.gguf_get_n_tensors(f), "tensors, alignment", g.gguf_get_alignment(f))
    kinds = {g.gguf_get_tensor_name(f, i): g.ggml_type_name(g.gguf_get_tensor_type(f, i)).decode() for i in range(g.gguf_get_n_tensors(f))}
    t = g.ggml_get_first_tensor(ctx)
    while t:
        name = g.ggml_get_name(t)
        if name in kinds:
            values = decoded(g, kinds[name], g.ggml_get_data(t), g.ggml_nelements(t))
            print(hashlib.sha256((values + 0.0).tobytes()).hexdigest()[:16], kinds[name], name.decode())
        t = g.ggml_get_next_tensor(ctx, t)


if __name__ == "__main__":
    lib = load(sys.argv[2])
    {"write": write, "check": check}[sys.argv[1]](lib, sys.argv[3])
