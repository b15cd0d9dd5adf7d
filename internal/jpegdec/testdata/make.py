"""Writes pictures.safetensors: small JPEG files of many kinds ("NAME.jpg") and the pixels that Pillow, which uses libjpeg-turbo,
decodes them to ("NAME.rgb", [H, W, 3]). Made with Pillow 13.0.0.

usage: make.py OUT
"""
import io
import json
import random
import struct
import sys

from PIL import Image


def picture(rng, width, height, kind):
    im = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            if kind == "noise":
                c = [rng.choice((0, 255)) for _ in range(3)]
            else:
                c = [(5 * x + 3 * y) % 256, (7 * y) % 256, 40 * ((x // 6 + y // 5) % 6)]
            im.putpixel((x, y), tuple(c))
    return im


rng = random.Random(7)
tensors = {}
SIZES = [(53, 37), (1, 1), (16, 16), (17, 2), (3, 40), (64, 33)]
for kind in ("smooth", "noise"):
    for sub in (0, 1, 2):
        for k, (w, h) in enumerate(SIZES):
            options = {"subsampling": sub, "quality": (3, 50, 75, 95, 100, 20)[(k + sub) % 6]}
            if k % 2 == sub % 2:
                options["progressive"] = True
            elif k % 3 == 0:
                options["restart_marker_blocks"] = 2
            if k == 5:
                options["optimize"] = True
            out = io.BytesIO()
            picture(rng, w, h, kind).save(out, "JPEG", **options)
            name = f"{kind}-{w}x{h}-{('444', '422', '420')[sub]}{'-progressive' if 'progressive' in options else ''}"
            tensors[name] = out.getvalue()
for w, h, options in [(30, 21, {}), (21, 30, {"progressive": True})]:
    out = io.BytesIO()
    picture(rng, w, h, "smooth").convert("L").save(out, "JPEG", **options)
    tensors[f"grey-{w}x{h}"] = out.getvalue()

header, data = {}, b""
for name, jpg in tensors.items():
    rgb = Image.open(io.BytesIO(jpg)).convert("RGB")
    for key, shape, part in [(name + ".jpg", [len(jpg)], jpg), (name + ".rgb", [rgb.height, rgb.width, 3], rgb.tobytes())]:
        header[key] = {"dtype": "U8", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
text = json.dumps(header).encode()
with open(sys.argv[1], "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + data)
