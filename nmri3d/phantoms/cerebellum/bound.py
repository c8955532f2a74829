"""How much of the noise any controller can cancel: the Kalman predictor of the plant's own process.

What a correction must know at step t is n[t]; what has been sensed is n[0..t-delay] with white noise. The noise is
Gaussian and linear, so no controller, linear or not, has an error variance below that of the Kalman prediction, and the
largest possible reduction is 1 - prediction variance / noise variance. In the first `delay` steps of a trial nothing has been
sensed and nothing can be cancelled. Source: Anderson and Moore, Optimal Filtering (1979), chapters 3 and 5.

Convention. The bias is taken as known: the bound is that of a controller whose memory is perfect.
"""

from __future__ import annotations

import numpy as np

from nmri3d.phantoms.cerebellum.plant import double_root


def prediction_variance(correlation: float, delay: int, sensor_share: float, steps: int) -> np.ndarray:
    """Variance of the best prediction's error at every step of a trial, float64 [steps]; the noise has variance 1."""
    p = double_root(correlation)
    transition = np.array([[2 * p, -(p**2)], [1.0, 0.0]])
    drive = np.array([[(1 - p**2) ** 3 / (1 + p**2), 0.0], [0.0, 0.0]])
    covariance = np.array([[1.0, correlation], [correlation, 1.0]])
    found = np.ones(steps)
    for step in range(delay, steps):
        gain = covariance[:, :1] / (covariance[0, 0] + sensor_share**2)
        ahead = covariance - gain @ covariance[:1]
        covariance = transition @ ahead @ transition.T + drive
        for _ in range(delay):
            ahead = transition @ ahead @ transition.T + drive
        found[step] = ahead[0, 0]
    return found


def possible_reduction(correlation: float, delay: int, sensor_share: float, steps: int) -> float:
    """Largest share of the noise's variance that can be cancelled, over all steps of a trial of this length."""
    return float(1 - prediction_variance(correlation, delay, sensor_share, steps).mean())
