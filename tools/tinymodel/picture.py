"""PNG files and contact sheets."""
import struct
import zlib

import numpy as np


def write(path, image):
    """uint8 [H, W, 3] as a PNG file."""
    h, w = image.shape[:2]
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    rows = np.concatenate((np.zeros((h, 1), np.uint8), image.reshape(h, 3 * w)), 1)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) +
                chunk(b"IEND", b""))


def read(path):
    """A picture file as uint8 [H, W, 3]; needs Pillow."""
    from PIL import Image
    return np.asarray(Image.open(path).convert("RGB"))


def sheet(clips, columns=9):
    """One row per clip [T, H, W, 3] of so many of its frames, evenly spaced, with thin lines between."""
    rows = []
    for clip in clips:
        picked = [clip[round(i * (len(clip) - 1) / (columns - 1))] for i in range(columns)]
        row = np.concatenate([np.pad(f, ((1, 1), (1, 1), (0, 0)), constant_values=90) for f in picked], 1)
        rows.append(row)
    width = max(r.shape[1] for r in rows)
    return np.concatenate([np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0)), constant_values=90) for r in rows])
