"""Prompt pairs on which fast methods are held against exact ones: indirect objects, facts, induction.

Convention. A pair is a clean prompt, a corrupted one that calls for another answer, and the two answers: `target` is that of
the clean prompt, `foil` that of the corrupted one. They were written before any model was run on them. A pair whose
prompts are not of equally many tokens for a model, or whose answers are not one token, is left out for that model and
counted.

    ioi        the name that is given to (Wang et al. 2022); corrupted: the other name gives
    facts      a fact about one thing; corrupted: the same about another
    induction  a list of words, begun again; corrupted: another word stood where the answer stands

Left out: pairs that differ in more than a name, a thing or a word.
"""

from __future__ import annotations

from dataclasses import dataclass

SETS = ("ioi", "facts", "induction")


@dataclass(frozen=True)
class PromptPair:
    """A clean and a corrupted prompt, and the text of the token that each calls for."""

    clean: str
    corrupt: str
    target: str
    foil: str


def _ioi(text: str, first: str, second: str) -> PromptPair:
    return PromptPair(
        clean=text.format(a=first, b=second, s=second),
        corrupt=text.format(a=first, b=second, s=first),
        target=" " + first,
        foil=" " + second,
    )


def _fact(text: str, thing: str, other: str, answer: str, other_answer: str) -> PromptPair:
    return PromptPair(text.format(thing), text.format(other), " " + answer, " " + other_answer)


def _induction(words: str, place: int, other: str) -> PromptPair:
    """Words read twice, the second time up to `place`; corrupted: `other` stood there the first time."""
    first = words.split()
    changed = [*first[:place], other, *first[place + 1 :]]
    return PromptPair(
        clean=" ".join([*first, *first[:place]]),
        corrupt=" ".join([*changed, *first[:place]]),
        target=" " + first[place],
        foil=" " + other,
    )


PROMPTS: dict[str, tuple[PromptPair, ...]] = {
    "ioi": (
        _ioi("When {a} and {b} went to the store, {s} gave a drink to", "Mary", "John"),
        _ioi("When {a} and {b} went to the park, {s} handed the ball to", "James", "Anna"),
        _ioi("After {a} and {b} had lunch at the station, {s} gave a ticket to", "Paul", "Sarah"),
        _ioi("While {a} and {b} were working at the office, {s} passed the letter to", "Emma", "David"),
        _ioi("Then {a} and {b} had a long talk, and {s} gave the keys to", "Peter", "Laura"),
        _ioi("When {a} and {b} met at the library, {s} showed a book to", "Alice", "George"),
        _ioi("At the market {a} and {b} bought some bread, and {s} gave it to", "Robert", "Mary"),
        _ioi("Because {a} and {b} were late for school, {s} threw the bag to", "Michael", "Jane"),
        _ioi("The evening that {a} and {b} cooked together, {s} offered some soup to", "Thomas", "Susan"),
        _ioi("Once {a} and {b} got home, {s} read the story to", "Helen", "Charles"),
        _ioi("In the garden {a} and {b} picked apples, and {s} gave one to", "William", "Kate"),
        _ioi("Before {a} and {b} left the hotel, {s} returned the money to", "Daniel", "Lucy"),
    ),
    "facts": (
        _fact("The capital of {} is", "France", "Italy", "Paris", "Rome"),
        _fact("The capital of {} is", "Germany", "Spain", "Berlin", "Madrid"),
        _fact("The capital of {} is", "Japan", "China", "Tokyo", "Beijing"),
        _fact("The capital of {} is the city of", "England", "Russia", "London", "Moscow"),
        _fact("People who live in {} mostly speak", "France", "Germany", "French", "German"),
        _fact("People who live in {} mostly speak", "China", "Italy", "Chinese", "Italian"),
        _fact(
            "Water freezes in winter, and when it is heated on the stove the {} turns to",
            "ice",
            "water",
            "water",
            "steam",
        ),
        _fact("The color of the {} is", "sky", "grass", "blue", "green"),
        _fact("The animal that says {} is the", "meow", "woof", "cat", "dog"),
        _fact("A young {} is called a", "dog", "cat", "puppy", "kitten"),
        _fact("The month after {} is", "March", "June", "April", "July"),
        _fact("The day after {} is", "Monday", "Friday", "Tuesday", "Saturday"),
        _fact("The opposite of {} is", "hot", "big", "cold", "small"),
    ),
    "induction": (
        _induction("tree lamp river horse window glass", 3, "bread"),
        _induction("table cloud orange finger paper stone", 4, "music"),
        _induction("king apple door seven yellow mountain", 3, "winter"),
        _induction("salt chair green wolf letter train", 4, "number"),
        _induction("bird copper night garden silver box", 2, "market"),
        _induction("milk bridge teacher snow circle engine", 4, "flower"),
        _induction("dance sugar island wall doctor rain", 3, "camera"),
        _induction("ship forest button cold village ring", 5, "knife"),
        _induction("smoke plate tiger summer coat ocean", 3, "pencil"),
        _induction("gold farmer street lemon heart cup", 2, "planet"),
        _induction("fish tower cotton east song wheel", 4, "shadow"),
        _induction("brick queen valley soap field drum", 3, "angle"),
    ),
}
"""Pairs by the name of their set."""
