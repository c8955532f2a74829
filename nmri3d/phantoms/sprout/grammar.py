"""SPROUT's grammar: a state machine that says, at every position, which tokens may follow and how likely each is.

Convention. A sentence is

    adverb  determiner (adjective) noun(+s)  ((preposition determiner noun(+s)))  verb group  (determiner noun(+s))  .

and every choice is made at the token that shows it, so that the state after a prefix is known exactly and the ideal
distribution of the next token is a plain lookup. The adverb fixes tense and form of the verb group:

    now   is/are stem +ing     then       was/were stem +ing
    often stem (+s)            yesterday  stem +ed

The verb agrees in number with the subject's head noun, not with the noun of the preposition phrase; animate nouns take
animate or transitive verbs, inanimate nouns inanimate ones. A position is *determined* where exactly one token may follow.

Held out of training, by rule: pairs of head noun n and verb v with (n + v) % 5 == 0, pairs of head noun n and noun m of the
preposition phrase with (n + 2 m) % 5 == 0, plurals and +ing forms that `lexicon` names. `train=False` allows all.

Left out: sampling weights of real English; every list is uniform.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from nmri3d.phantoms.sprout.lexicon import (
    ADJECTIVES,
    ADVERBS,
    ANIMATE,
    ANIMATE_VERBS,
    BE,
    DETERMINERS,
    INANIMATE_VERBS,
    NEVER_PLURAL,
    NEVER_PROGRESSIVE,
    NOUNS,
    PREPOSITIONS,
    STOP,
    TRANSITIVE_VERBS,
    VERBS,
)

P_ADJECTIVE, P_PLURAL, P_PHRASE = 0.25, 0.5, 0.5
_NOUN, _VERB = ({word: number for number, word in enumerate(words)} for words in (NOUNS, VERBS))


@dataclass(frozen=True)
class State:
    """What is known after a prefix.

    at        what the next token is chosen for: "adverb", "determiner", "adjective" (or the noun), "noun", "number" (a suffix,
              or what follows the noun), "phrase" (a preposition or the verb group), "verb", "suffix", "stop" or "end"
    role      of the noun phrase under way: "subject", "phrase" or "object"
    adverb    the first token
    asked     what the last determiner asks of the number: True plural, False singular, None either
    noun      the last noun; its number is not yet known at "number"
    head      the subject's head noun; plural whether it is plural (None: not known yet)
    verb      the verb's stem
    unheard   whether a pair of head and verb, or of head and phrase noun, that training never shows came before
    """

    at: str = "adverb"
    role: str = "subject"
    adverb: str = ""
    asked: bool | None = None
    noun: str = ""
    head: str = ""
    plural: bool | None = None
    verb: str = ""
    unheard: bool = False


@lru_cache(maxsize=20_000)
def options(state: State, train: bool) -> Mapping[str, float]:
    """The tokens that may follow and their probabilities, which sum to 1; none after the end."""
    match state.at:
        case "adverb":
            return _even(ADVERBS)
        case "determiner":
            return _even(DETERMINERS)
        case "adjective":
            return _mixed(P_ADJECTIVE, _even(ADJECTIVES), _even(_nouns(state, train)))
        case "noun":
            return _even(_nouns(state, train))
        case "number":
            if state.asked:
                return {"+s": 1.0}
            rest = options(_numbered(state, plural=False), train)
            silent = state.asked is False or (train and state.noun in NEVER_PLURAL)
            return rest if silent else _mixed(P_PLURAL, {"+s": 1.0}, rest)
        case "phrase":
            return _mixed(P_PHRASE, _even(PREPOSITIONS), _verb_group(state, train))
        case "group":
            return _verb_group(state, train)
        case "verb":
            return _even(_verbs(state, train))
        case "suffix":
            return {{"now": "+ing", "then": "+ing", "yesterday": "+ed"}.get(state.adverb, "+s"): 1.0}
        case "stop":
            return {STOP: 1.0}
    return {}


def follow(state: State, token: str, train: bool = False) -> State:
    """The state after a token. Raises ValueError for one that may not follow."""
    if token not in options(state, train):
        raise ValueError(f"{token!r} may not follow here ({state.at})")
    match state.at:
        case "adverb":
            return replace(state, at="determiner", adverb=token)
        case "determiner":
            return replace(state, at="adjective" if state.role == "subject" else "noun", asked=DETERMINERS[token])
        case "adjective" if token in ADJECTIVES:
            return replace(state, at="noun")
        case "adjective" | "noun":
            return _with_noun(state, token)
        case "number":
            plural = token == "+s"
            numbered = _numbered(state, plural)
            return numbered if plural else follow(numbered, token, train)
        case "phrase" if token in PREPOSITIONS:
            return replace(state, at="determiner", role="phrase", noun="")
        case "phrase" | "group":
            return replace(state, at="verb") if token in BE else _with_verb(state, token)
        case "verb":
            return _with_verb(state, token)
        case "suffix":
            return _after_verb(state)
    return replace(state, at="end")


def states(tokens: list[str] | tuple[str, ...]) -> list[State]:
    """The states after 0, 1, ... tokens by the whole grammar. Raises ValueError where a token may not follow."""
    found = [State()]
    for token in tokens:
        found.append(follow(found[-1], token))
    return found


def sentence(random: np.random.Generator, train: bool) -> list[str]:
    """A sentence drawn token by token."""
    state, tokens = State(), []
    while state.at != "end":
        choices = options(state, train)
        token = str(random.choice(list(choices), p=list(choices.values())))
        tokens.append(token)
        state = follow(state, token, train)
    return tokens


def _even(words: Iterable[str]) -> dict[str, float]:
    words = tuple(words)
    return dict.fromkeys(words, 1 / len(words))


def _mixed(share: float, first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    return {word: share * p for word, p in first.items()} | {word: (1 - share) * p for word, p in second.items()}


def _held_out_pair(head: str, verb: str) -> bool:
    return (_NOUN[head] + _VERB[verb]) % 5 == 0


def _held_out_phrase(head: str, noun: str) -> bool:
    return (_NOUN[head] + 2 * _NOUN[noun]) % 5 == 0


def _nouns(state: State, train: bool) -> tuple[str, ...]:
    if not train:
        return NOUNS
    allowed = (noun for noun in NOUNS if not (state.asked and noun in NEVER_PLURAL))
    return tuple(noun for noun in allowed if state.role != "phrase" or not _held_out_phrase(state.head, noun))


def _with_noun(state: State, noun: str) -> State:
    head = noun if state.role == "subject" else state.head
    unheard = state.unheard or (state.role == "phrase" and _held_out_phrase(head, noun))
    return replace(state, at="number", noun=noun, head=head, unheard=unheard)


def _numbered(state: State, plural: bool) -> State:
    """The state once the number of the noun phrase is known."""
    match state.role:
        case "subject":
            return replace(state, at="phrase", plural=plural)
        case "phrase":
            return replace(state, at="group")
    return replace(state, at="stop")


def _verb_group(state: State, train: bool) -> dict[str, float]:
    if state.adverb == "now":
        return {"are" if state.plural else "is": 1.0}
    if state.adverb == "then":
        return {"were" if state.plural else "was": 1.0}
    return _even(_verbs(state, train))


def _verbs(state: State, train: bool) -> tuple[str, ...]:
    verbs: tuple[str, ...] = ANIMATE_VERBS + TRANSITIVE_VERBS if state.head in ANIMATE else INANIMATE_VERBS
    if train:
        progressive = state.adverb in ("now", "then")
        verbs = tuple(
            verb
            for verb in verbs
            if not _held_out_pair(state.head, verb) and not (progressive and verb in NEVER_PROGRESSIVE)
        )
    return verbs


def _with_verb(state: State, verb: str) -> State:
    """After the stem: a suffix, unless the simple present has a plural subject."""
    state = replace(state, verb=verb, unheard=state.unheard or _held_out_pair(state.head, verb))
    return _after_verb(state) if state.adverb == "often" and state.plural else replace(state, at="suffix")


def _after_verb(state: State) -> State:
    if state.verb in TRANSITIVE_VERBS:
        return replace(state, at="determiner", role="object")
    return replace(state, at="stop")
