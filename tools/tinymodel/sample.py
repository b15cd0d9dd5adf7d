"""Makes one clip with the exported model in fp32: python3 -m tinymodel.sample CHECKPOINT --image FILE --prompt TEXT --out FOLDER"""
import argparse
import os

from . import picture, resize, sizes, words
from .reference import Reference


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("checkpoint")
    a.add_argument("--image", required=True)
    a.add_argument("--prompt", required=True)
    a.add_argument("--negative", default=words.NEGATIVE)
    a.add_argument("--out", required=True)
    a.add_argument("--seed", type=int, default=0)
    a.add_argument("--steps", type=int, default=12)
    a.add_argument("--guidance", type=float, default=5.0)
    a.add_argument("--scale", type=float, default=sizes.SHIFT)
    a.add_argument("--seconds", type=int, default=1)
    a.add_argument("--size", help="HEIGHTxWIDTH; else the picture's aspect in about 128x128 pixels")
    args = a.parse_args()
    image = picture.read(args.image)
    height, width = map(int, args.size.split("x")) if args.size else resize.fit(*image.shape[:2])
    image = resize.resize(image, height, width)
    shown, _, _ = Reference(args.checkpoint).clips([image], [args.prompt], [args.seed], 24 * args.seconds + 1, args.steps, args.guidance, args.scale,
                                                  args.negative)
    os.makedirs(args.out, exist_ok=True)
    for i, frame in enumerate(shown[0]):
        picture.write(f"{args.out}/frame{i:03}.png", frame)
    picture.write(f"{args.out}/sheet.png", picture.sheet(shown))


if __name__ == "__main__":
    main()
