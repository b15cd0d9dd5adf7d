"""What the clips show, and the words for it in English and Russian."""
import itertools
import json
import os

SHAPES = ["circle", "square", "triangle", "star"]
COLORS = {  # name: RGB
    "red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 90, 225), "yellow": (235, 210, 50),
    "purple": (150, 60, 190), "cyan": (50, 205, 215), "orange": (240, 130, 30), "white": (240, 240, 240)}
BACKGROUNDS = {"black": (15, 15, 15), "gray": (120, 120, 120), "navy": (15, 20, 70), "beige": (225, 205, 170)}
MOTIONS = ["right", "left", "up", "down", "turns", "grows", "shrinks", "bounces", "still"]
TOO_CLOSE = {("white", "beige"), ("yellow", "beige"), ("orange", "beige"), ("blue", "navy"), ("purple", "navy")}  # color and background

# Pairs of color and motion that no training clip shows.
HELD_OUT = [("red", "right"), ("blue", "left"), ("green", "up"), ("yellow", "down"), ("purple", "grows"), ("cyan", "shrinks"),
            ("orange", "bounces"), ("white", "right"), ("green", "grows"), ("blue", "bounces"), ("red", "up"), ("yellow", "left"),
            ("orange", "down"), ("cyan", "right"), ("white", "shrinks"), ("purple", "still")]

EN = {
    "right": ["moves to the right", "moves right", "goes to the right", "slides right", "slides to the right", "moves rightwards"],
    "left": ["moves to the left", "moves left", "goes to the left", "slides left", "slides to the left", "moves leftwards"],
    "up": ["moves up", "moves upwards", "goes up", "rises", "slides up", "moves to the top"],
    "down": ["moves down", "moves downwards", "goes down", "falls", "slides down", "moves to the bottom"],
    "turns": ["turns", "rotates", "spins", "turns around", "rotates clockwise", "turns clockwise"],
    "grows": ["grows", "gets bigger", "becomes larger", "grows larger", "expands"],
    "shrinks": ["shrinks", "gets smaller", "becomes smaller", "shrinks away", "contracts"],
    "bounces": ["bounces", "jumps up and down", "bounces up and down", "jumps", "hops"],
    "still": ["stays still", "does not move", "stands still", "stays where it is", "rests"]}
RU = {
    "right": ["движется вправо", "едет вправо", "перемещается вправо", "сдвигается вправо", "движется направо"],
    "left": ["движется влево", "едет влево", "перемещается влево", "сдвигается влево", "движется налево"],
    "up": ["движется вверх", "поднимается", "перемещается вверх", "поднимается вверх"],
    "down": ["движется вниз", "опускается", "перемещается вниз", "падает", "падает вниз"],
    "turns": ["поворачивается", "вращается", "крутится", "вращается по часовой стрелке"],
    "grows": ["растёт", "увеличивается", "становится больше", "расширяется"],
    "shrinks": ["уменьшается", "становится меньше", "сжимается", "сокращается"],
    "bounces": ["прыгает", "подпрыгивает", "скачет", "прыгает вверх и вниз"],
    "still": ["стоит на месте", "не движется", "остаётся на месте", "неподвижно стоит"]}
RU_SHAPES = {"circle": "круг", "square": "квадрат", "triangle": "треугольник", "star": "звезда"}
RU_COLORS = {"red": "красн", "green": "зелён", "blue": "син", "yellow": "жёлт", "purple": "фиолетов", "cyan": "голуб", "orange": "оранжев", "white": "бел"}
RU_BACKGROUNDS = {"black": "чёрном", "gray": "сером", "navy": "тёмно-синем", "beige": "бежевом"}

NEGATIVE = ("Static, 2D cartoon, cartoon, 2d animation, paintings, images, worst quality, low quality, ugly, deformed, walking backwards")

TEMPLATE = (
    "<|im_start|>system\nYou are a promt engineer. Describe the video in detail.\n"
    "Describe how the camera moves or shakes, describe the zoom and view angle, whether it follows the objects.\n"
    "Describe the location of the video, main characters or objects and their action.\n"
    "Describe the dynamism of the video and presented actions.\n"
    "Name the visual style of the video: whether it is a professional footage, user generated content, some kind of animation, video game or scren content.\n"
    "Describe the visual effects, postprocessing and transitions if they are presented in the video.\n"
    "Pay attention to the order of key actions shown in the scene.<|im_end|>\n<|im_start|>user\n")
CLOSING = "<|im_end|>"


def russian_color(color, shape):
    stem = RU_COLORS[color]
    if shape == "star":
        return stem + ("яя" if color == "blue" else "ая")
    return stem + ("ий" if color == "blue" else "ой" if color == "cyan" else "ый")


def caption(rng, shape, color, background, motion):
    """One of many ways to say it; rng is a random.Random."""
    if rng.random() < 0.35:
        text = RU_SHAPES[shape]
        if rng.random() < 0.9:
            text = russian_color(color, shape) + " " + text
        if rng.random() < 0.25:
            text += " на " + RU_BACKGROUNDS[background] + " фоне"
        text += " " + rng.choice(RU[motion])
        if rng.random() < 0.3:
            text = text.replace("ё", "е")
    else:
        text = rng.choice(["a", "a", "a", "the", "one"]) + " "
        if rng.random() < 0.9:
            text += color + " "
        text += shape
        if rng.random() < 0.25:
            text += rng.choice([" on a ", " on the ", " in front of a "]) + background + " background"
        text += " " + rng.choice(EN[motion])
    if rng.random() < 0.4:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.3:
        text += "."
    return text


def allowed():
    """All (shape, color, background, motion) of training clips."""
    held = set(HELD_OUT)
    return [(s, c, b, m) for s, c, b, m in itertools.product(SHAPES, COLORS, BACKGROUNDS, MOTIONS)
            if (c, m) not in held and (c, b) not in TOO_CLOSE and not (s == "circle" and m == "turns")]


def corpus():
    """Texts with weights, for the tokenizers."""
    texts = {TEMPLATE.replace("<|im_start|>", "\n").replace("<|im_end|>", "\n"): 40, NEGATIVE: 40}
    for s, c in itertools.product(SHAPES, COLORS):
        for m in MOTIONS:
            for phrase in EN[m]:
                texts[f"a {c} {s} {phrase}"] = 2
            for phrase in RU[m]:
                texts[f"{russian_color(c, s)} {RU_SHAPES[s]} {phrase}"] = 2
                texts[f"{russian_color(c, s)} {RU_SHAPES[s]} {phrase}".replace("ё", "е")] = 1
    for b in BACKGROUNDS:
        for s in SHAPES:
            texts[f"the {s} on a {b} background moves. A {s} in front of the {b} background turns. One {s} rests"] = 10
            texts[f"{RU_SHAPES[s].capitalize()} на {RU_BACKGROUNDS[b]} фоне"] = 20
    for c in COLORS:
        for s in SHAPES:
            texts[russian_color(c, s).capitalize()] = 5
    return texts


def write_holdout(folder):
    with open(os.path.join(folder, "holdout.json"), "w") as f:
        json.dump({"held_out": [{"color": c, "motion": m} for c, m in HELD_OUT]}, f, indent=1)
        f.write("\n")
