"""Prompts that nobody wrote in good faith, or only by accident: the same ones for REST and for the stream.

Convention. The list depends on `count` and `seed` alone. Every kind comes in turn, so that a short list has them all; what
follows the fixed samples is drawn at random from the same alphabets.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<pad>", "<unk>", "<bos>", "<eos>", "<mask>"),
    *("[CLS]", "[SEP]", "[INST]", "<<SYS>>", "<|begin_of_text|>", "<|eot_id|>", "<fim_prefix>", "<repo_name>"),
    *("<|bos|>", "<|eos|>"),
)

FIXED: dict[str, tuple[str, ...]] = {
    "empty": ("",),
    "whitespace": (
        " ",
        "\t",
        "\n",
        "\r\n",
        "   \n\t  ",
        "\u00a0",
        "\u2003\u2009",
        "\u3000",
        "\u200b",
        "\ufeff",
        "\u2028",
    ),
    "control": ("\x00", "a\x00b", "\x01\x02\x03", "\x1b[31mred\x1b[0m", "\x07", "\x7f", "\x80\x9f", "\x08" * 20),
    "surrogate": ("\ud800", "\udfff", "a\ud83d", "\ude00b", "\ud800\ud800", "ok \udc80 ok"),
    "emoji": ("😀", "🧠🧠🧠", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷🇩🇪", "👍🏽", "❤️", "🧑🏿‍🚀" * 20),
    "joiners": ("\u200d", "a\u200db", "\u200c" * 50, "\u2060", "क्‍ष", "न्‌न"),
    "right to left": ("שלום", "مرحبا بالعالم", "\u202eabc\u202c", "a\u202eb\u2066c", "\u061c", "العَرَبِيَّة 123 abc"),
    "combining": ("e\u0301", "Z" + "\u0335" * 300, "a\u0300\u0301\u0302", "\u0301alone", "ำ" * 40, "각" * 30),
    "special tokens": SPECIAL_TOKENS,
    "markup": (
        *("<script>alert(1)</script>", "'; DROP TABLE models; --", "{{7*7}}", "${jndi:ldap://x}", "%00%0a", "%s%n%x"),
        *('"}],"type":"cancel"', "\\ud800", "../../etc/passwd", "\\\\?\\C:\\con", "=cmd|' /C calc'!A0", "NaN", "null"),
    ),
    "other planes": (
        "𝔘𝔫𝔦",
        "\U0010ffff",
        "\U000e0041\U000e007f",
        "\ufffe",
        "\uffff",
        "\ufffd",
        "𓀀𓂀",
        "\U0001f468\u200d",
    ),
    "long": (
        "a" * 100_000,
        " " * 100_000,
        "😀" * 25_000,
        "word " * 20_000,
        "\n" * 100_000,
        "\u0301" * 50_000,
        "ab" * 1500,
    ),
    "plain": ("The capital of France is", "a", "0", "Grüße aus 東京 🧠", "naïve café", "Москва", "北京"),
}

_ALPHABETS: dict[str, Callable[[random.Random], str]] = {
    "control": lambda draw: chr(draw.choice([*range(32), *range(127, 160)])),
    "whitespace": lambda draw: draw.choice(" \t\n\r\x0b\x0c\u00a0\u1680\u2000\u2028\u202f\u3000\ufeff"),
    "surrogate": lambda draw: chr(draw.randrange(0xD800, 0xE000)) if draw.random() < 0.3 else draw.choice("abc "),
    "emoji": lambda draw: draw.choice(
        [chr(draw.randrange(0x1F300, 0x1FAFF)), "\u200d", "\ufe0f", chr(draw.randrange(0x1F3FB, 0x1F400)), " "]
    ),
    "right to left": lambda draw: chr(draw.choice([draw.randrange(0x590, 0x700), 0x202E, 0x202C, 0x2067, 0x20])),
    "combining": lambda draw: draw.choice([chr(draw.randrange(0x300, 0x370)), chr(draw.randrange(97, 123))]),
    "special tokens": lambda draw: draw.choice([*SPECIAL_TOKENS, " ", "x", "<|", "|>"]),
    "any": lambda draw: chr(draw.choice([draw.randrange(0xD800), draw.randrange(0xE000, 0x110000)])),
}


def hostile_prompts(count: int = 500, *, seed: int = 0) -> list[str]:
    """`count` prompts, all different. Some hold lone surrogates, which JSON can carry (as escapes) and UTF-8 cannot."""
    draw = random.Random(seed)
    kinds = list(FIXED.values())
    longest = max(map(len, kinds))
    prompts = dict.fromkeys(kind[place] for place in range(longest) for kind in kinds if place < len(kind))
    while len(prompts) < count:
        alphabets = draw.sample(list(_ALPHABETS.values()), draw.choice([1, 1, 1, 2, 3]))
        length = draw.choice([1, 2, 3, 5, 8, 13, 21, 60])
        prompts["".join(draw.choice(alphabets)(draw) for _ in range(length))] = None
    return list(prompts)[:count]


def as_carried(prompt: str) -> str:
    """What the other side of a JSON message reads: two halves of a character that happen to follow each other are one."""
    return json.loads(json.dumps(prompt))
