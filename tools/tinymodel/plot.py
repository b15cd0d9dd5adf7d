"""Draws the loss curves of a training: python3 -m tinymodel.plot LOG.jsonl FILE.png (needs Pillow)"""
import json
import math
import sys

from PIL import Image, ImageDraw

WIDTH, HEIGHT, LEFT, TOP = 440, 260, 52, 28


def panel(draw, x0, title, points):
    """points: (seconds, value); values on a logarithmic axis."""
    low, high = (f(v for _, v in points) for f in (min, max))
    low, high, end = math.log10(low) - 0.05, math.log10(high) + 0.05, points[-1][0]
    at = lambda s, v: (x0 + LEFT + s / end * (WIDTH - LEFT - 14), TOP + (high - math.log10(v)) / (high - low) * (HEIGHT - TOP - 34))
    draw.text((x0 + LEFT, 8), title, fill=(30, 30, 30))
    for power in range(-3, 4):
        for digit in (1, 2, 5):
            value = digit * 10.0 ** power
            if low <= math.log10(value) <= high:
                draw.line([at(0, value), at(end, value)], fill=(225, 225, 225))
                draw.text((x0 + 8, at(0, value)[1] - 6), f"{value:g}", fill=(90, 90, 90))
    for k in range(5):
        x, _ = at(end * k / 4, 10 ** low)
        draw.text((min(x - 8, x0 + WIDTH - 44), HEIGHT - 26), f"{end * k / 4:.0f} s", fill=(90, 90, 90))
    draw.line([at(s, v) for s, v in points], fill=(190, 205, 235))
    window = max(1, len(points) // 20)
    mean = [(points[i][0], sum(v for _, v in points[max(0, i - window):i + 1]) / len(points[max(0, i - window):i + 1])) for i in range(len(points))]
    draw.line([at(s, v) for s, v in mean], fill=(30, 80, 170), width=2)


def main():
    with open(sys.argv[1]) as f:
        lines = [json.loads(line) for line in f]
    image = Image.new("RGB", (2 * WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    for k, (stage, key, title) in enumerate((("vae", "l1", "autoencoder: mean absolute error, levels of 255"), ("dit", "loss", "transformer: squared error of the velocity"))):
        panel(draw, k * WIDTH, title, [(v["seconds"], v[key]) for v in lines if v["stage"] == stage and key in v])
    image.quantize(32).save(sys.argv[2], optimize=True)


if __name__ == "__main__":
    main()
