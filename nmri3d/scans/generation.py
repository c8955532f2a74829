"""Generation scan: the model writes on, and each token is scanned as it comes.

Convention. A step takes the likeliest next token (temperature 0) or draws one from softmax(logits / temperature) by a
seeded generator, appends it, and gives the fMRI scan of all tokens so far: the same numbers as a scan of the whole text.
The logits come from the same pass. It ends after `n_tokens`, at the model's end token, or where the context is full.

Cost. One pass over the text so far a token.

Left out: sampling strategies beyond temperature.
"""

from __future__ import annotations

import numpy as np

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Stimulus
from nmri3d.models.residual_backend import require_residual
from nmri3d.results import GenerationStep, Prediction
from nmri3d.scans.fmri import FmriConfig, measure_fmri


class Generation:
    """A text that a model goes on writing, token by token.

    n_tokens     how many at most; temperature 0 takes the likeliest

    Raises InputError for a bad prompt or number.
    """

    def __init__(self, model: Backend, prompt: str, n_tokens: int, *, temperature: float = 0.0, seed: int = 0) -> None:
        model = require_residual(model, "generation")
        if isinstance(n_tokens, bool) or not isinstance(n_tokens, int) or not 1 <= n_tokens <= model.info.n_context:
            raise InputError(f"the number of tokens to write is from 1 to {model.info.n_context:,}, got {n_tokens!r}")
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= 100:
            raise InputError(f"the temperature is a number from 0 to 100, got {temperature!r}")
        self._stimulus = model.stimulus(prompt)
        if len(self._stimulus) >= model.info.n_context:
            raise InputError(f"the prompt fills the context of {model.info.n_context:,} tokens; shorten it")
        self._left = min(n_tokens, model.info.n_context - len(self._stimulus))
        self._temperature, self._random = temperature, np.random.default_rng(seed)
        self._index = 0
        self._ended = False
        self._logits: np.ndarray | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more is to be written."""
        return self._ended or self._left == 0

    def step(self, model: Backend) -> GenerationStep:
        """Write one token and scan. The model must be the one that the generation began with."""
        if self._logits is None:
            last = model.run(self._stimulus, {}, logits=[-1]).logits
            self._logits = last[0].float().cpu().numpy()
        token = self._choose(self._logits, model)
        self._stimulus = _extended(self._stimulus, token)
        scan, logits = measure_fmri(model, self._stimulus, FmriConfig(), last_logits=True)
        self._logits = logits
        self._ended = token.token_id in model.end_tokens
        step = GenerationStep(self._index, token, scan, self._stimulus.text)
        self._index += 1
        self._left -= 1
        return step

    def _choose(self, logits: np.ndarray, model: Backend) -> Prediction:
        scores = logits.astype(np.float64)
        probabilities = np.exp(scores - scores.max())
        probabilities /= probabilities.sum()
        token = int(scores.argmax())
        if self._temperature > 0:
            with np.errstate(over="ignore"):  # near 0, what is not the likeliest gets minus infinity
                heated = np.exp((scores - scores.max()) / self._temperature)
            token = int(self._random.choice(len(heated), p=heated / heated.sum()))
        return Prediction(model.token_text(token), token, float(probabilities[token]), float(logits[token]))


def _extended(stimulus: Stimulus, token: Prediction) -> Stimulus:
    return Stimulus(
        stimulus.text + token.token,
        np.append(stimulus.ids, token.token_id),
        (*stimulus.labels, token.token),
        np.append(stimulus.special, False),
    )
