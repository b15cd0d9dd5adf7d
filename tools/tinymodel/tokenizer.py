"""Byte-level BPE in the published file formats of Qwen2 and CLIP: training on a small corpus, and encoding."""
import json
import os
import unicodedata
from collections import Counter

import regex

QWEN_SPLIT = regex.compile(
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""")
CLIP_SPLIT = regex.compile(r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""")
END = "</w>"
QWEN_ADDED = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> <|quad_start|>
<|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> <tool_call> </tool_call> <|fim_prefix|> <|fim_middle|>
<|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>""".split()
QWEN_SPECIAL = 14  # of QWEN_ADDED: special for decoding


def alphabet():
    """The printable character of each byte, in the order of the published vocabularies."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    out = {b: chr(b) for b in plain}
    for i, b in enumerate(b for b in range(256) if b not in out):
        out[b] = chr(256 + i)
    return {b: out[b] for b in plain + [b for b in range(256) if b not in plain]}


BYTES = alphabet()


def symbols(piece):
    return tuple(BYTES[b] for b in piece.encode())


def learn(words, known, count):
    """Learns up to count merges from words, a Counter of symbol tuples; known is the set of single symbols."""
    merges, words = [], dict(words)
    while len(merges) < count:
        pairs = Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        pairs = Counter({p: n for p, n in pairs.items() if p[0] + p[1] not in known})
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        known.add(best[0] + best[1])
        words = {merge(word, best): n for word, n in words.items()}
    return merges


def merge(word, pair):
    out, i = [], 0
    while i < len(word):
        if word[i:i + 2] == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


class BPE:
    def __init__(self, vocab, merges):
        self.vocab, self.ranks, self.cache = vocab, {m: i for i, m in enumerate(merges)}, {}

    def piece(self, word):
        if word not in self.cache:
            now = word
            while len(now) > 1:
                pair = min(zip(now, now[1:]), key=lambda p: self.ranks.get(p, 1 << 30))
                if pair not in self.ranks:
                    break
                now = merge(now, pair)
            self.cache[word] = [self.vocab[s] for s in now]
        return self.cache[word]


class QwenTokenizer(BPE):
    def __init__(self, vocab, merges, base):
        super().__init__(vocab, merges)
        self.base = base
        self.added = {name: base + i for i, name in enumerate(QWEN_ADDED)}
        self.cut = regex.compile("(" + "|".join(regex.escape(n) for n in sorted(QWEN_ADDED, key=len, reverse=True)) + ")")

    def encode(self, text):
        ids = []
        for part in self.cut.split(text):
            if part in self.added:
                ids.append(self.added[part])
                continue
            for piece in QWEN_SPLIT.findall(unicodedata.normalize("NFC", part)):
                ids += self.piece(symbols(piece))
        return ids

    @property
    def size(self):
        return -(-(self.base + len(QWEN_ADDED)) // 8) * 8


class CLIPTokenizer(BPE):
    def __init__(self, vocab, merges, size):
        super().__init__(vocab, merges)
        self.size, self.bos, self.eos = size, size - 2, size - 1

    def encode(self, text):
        text = regex.sub(r"\s+", " ", unicodedata.normalize("NFC", text))
        text = "".join(letter.lower() for letter in text)  # each by itself: no final sigma
        ids = []
        for piece in CLIP_SPLIT.findall(text):
            if piece == "<|startoftext|>" or piece == "<|endoftext|>":
                ids.append(self.bos if "start" in piece else self.eos)
                continue
            s = symbols(piece)
            ids += self.piece(s[:-1] + (s[-1] + END,))
        return ids

    def sequence(self, text, length=77):
        ids = [self.bos] + self.encode(text)[:length - 2] + [self.eos]
        return ids + [self.eos] * (length - len(ids))


def train_qwen(texts, count):
    words = Counter(symbols(p) for t, n in texts.items() for p in QWEN_SPLIT.findall(unicodedata.normalize("NFC", t)) for _ in range(n))
    merges = learn(words, set(BYTES.values()), count)
    vocab = {s: i for i, s in enumerate(list(BYTES.values()) + [a + b for a, b in merges])}
    return QwenTokenizer(vocab, merges, len(vocab))


def train_clip(texts, count):
    words = Counter()
    for t, n in texts.items():
        for p in CLIP_SPLIT.findall(regex.sub(r"\s+", " ", unicodedata.normalize("NFC", t)).lower()):
            s = symbols(p)
            words[s[:-1] + (s[-1] + END,)] += n
    singles = list(BYTES.values()) + [c + END for c in BYTES.values()]
    merges = learn(words, set(singles), count)
    vocab = {s: i for i, s in enumerate(singles + [a + b for a, b in merges])}
    return CLIPTokenizer(vocab, merges, -(-(len(vocab) + 2) // 8) * 8)


def write_merges(path, merges):
    with open(path, "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=1)
        f.write("\n")


def save(folder, qwen, clip):
    """Writes tokenizer/ and tokenizer_2/ below folder."""
    a, b = os.path.join(folder, "tokenizer"), os.path.join(folder, "tokenizer_2")
    os.makedirs(a, exist_ok=True)
    os.makedirs(b, exist_ok=True)
    write_json(f"{a}/vocab.json", qwen.vocab)
    write_merges(f"{a}/merges.txt", qwen.ranks)
    added = lambda content, normalized=False, special=None: {
        "content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False,
        **({} if special is None else {"special": special})}
    write_json(f"{a}/tokenizer_config.json", {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(i): added(n, special=i - qwen.base < QWEN_SPECIAL) for n, i in qwen.added.items()},
        "additional_special_tokens": QWEN_ADDED[1:QWEN_SPECIAL], "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "unk_token": None, "errors": "replace", "model_max_length": 131072, "tokenizer_class": "Qwen2Tokenizer"})
    write_json(f"{a}/preprocessor_config.json", {
        "min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"})
    write_json(f"{b}/vocab.json", {**clip.vocab, "<|startoftext|>": clip.bos, "<|endoftext|>": clip.eos})
    write_merges(f"{b}/merges.txt", clip.ranks)
    special = {"bos_token": added("<|startoftext|>", True), "eos_token": added("<|endoftext|>", True),
               "unk_token": added("<|endoftext|>", True), "pad_token": "<|endoftext|>"}
    write_json(f"{b}/special_tokens_map.json", special)
    write_json(f"{b}/tokenizer_config.json", {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77,
                                             "tokenizer_class": "CLIPTokenizer", **special})


def load(folder):
    """The tokenizers that save wrote."""
    def read(name):
        with open(f"{folder}/{name}/vocab.json", encoding="utf-8") as f:
            vocab = json.load(f)
        with open(f"{folder}/{name}/merges.txt", encoding="utf-8") as f:
            merges = [tuple(line.split(" ")) for line in f.read().split("\n")[1:] if line]
        return vocab, merges
    vocab, merges = read("tokenizer")
    qwen = QwenTokenizer(vocab, merges, len(vocab))
    vocab, merges = read("tokenizer_2")
    return qwen, CLIPTokenizer(vocab, merges, vocab["<|endoftext|>"] + 1)
