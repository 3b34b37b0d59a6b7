"""What a practitioner would use: naive rules with a spread, a vector autoregression, imputers."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["forward_fill", "interpolate", "iterative_impute", "seasonal_naive", "var_forecast"]

Array = NDArray[np.float64]


def seasonal_naive(
    past: Array, horizon: int, season: int, num_samples: int, generator: np.random.Generator
) -> Array:
    """The value of a season ago, with the spread of that rule's own errors: ``(S, H, C)``.

    Hyndman and Athanasopoulos, *Forecasting*, section 5.5: the variance grows with the number of
    seasons.

    Args:
        past: ``(T, C)``.
        horizon: H.
        season: in steps.
        num_samples: S.
        generator: of the samples.
    """
    back = min(season, len(past))
    errors = past[back:] - past[:-back] if len(past) > back else np.zeros_like(past)
    spread = np.sqrt((errors**2).mean(0))  # (C,)
    steps = np.arange(horizon)
    center = past[len(past) - back + steps % back]  # (H, C)
    scale = spread * np.sqrt(steps // back + 1)[:, None]
    return center + scale * generator.standard_normal((num_samples, *center.shape))


def var_forecast(
    past: Array, horizon: int, num_samples: int, generator: np.random.Generator, most_lags: int
) -> Array:
    """A vector autoregression, its order chosen by AIC (statsmodels): ``(S, H, C)``."""
    from statsmodels.tsa.api import VAR

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dates without a frequency, and of short series
        fitted = VAR(past).fit(maxlags=most_lags, ic="aic")
        mean = fitted.forecast(past[-max(1, fitted.k_ar) :], horizon)  # (H, C)
        covariance = fitted.forecast_cov(horizon)  # (H, C, C)
    roots = np.linalg.cholesky(covariance + 1e-9 * np.eye(past.shape[1]))
    noise = generator.standard_normal((num_samples, *mean.shape))
    return mean + np.einsum("hij,shj->shi", roots, noise)


def forward_fill(values: Tensor) -> Tensor:
    """A gap takes the value before it: ``(T, N, C)``."""
    filled = values.clone()
    for t in range(1, len(filled)):
        filled[t] = torch.where(filled[t].isnan(), filled[t - 1], filled[t])
    return filled


def interpolate(values: Tensor) -> Tensor:
    """A gap is a straight line from the value before it to that after it: ``(T, N, C)``."""
    filled = values.clone()
    steps = np.arange(len(values))
    for n in range(values.shape[1]):
        for c in range(values.shape[2]):
            column = values[:, n, c].numpy()
            there = ~np.isnan(column)
            filled[:, n, c] = torch.as_tensor(np.interp(steps, steps[there], column[there]))
    return filled


def iterative_impute(train: Tensor, values: Tensor, lags: int = 3) -> Tensor:
    """Each channel from the others and from the steps around it (scikit-learn): ``(T, N, C)``."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    def rows(series: Tensor) -> Array:
        """A row for each step, with those before and after it: ``(N * T, C * (2 lags + 1))``."""
        padded = torch.nn.functional.pad(
            series.movedim(0, 1), (0, 0, lags, lags), value=torch.nan
        )  # (N, T + 2 lags, C)
        shifts = [padded[:, i : i + series.shape[0]] for i in range(2 * lags + 1)]
        shifts.insert(0, shifts.pop(lags))
        return torch.cat(shifts, dim=-1).flatten(0, 1).double().numpy()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rounds that did not converge
        imputer = IterativeImputer(max_iter=10, random_state=0, keep_empty_features=True)
        imputer.fit(rows(train))
        made = imputer.transform(rows(values))
    steps, number, channels = values.shape
    filled = torch.as_tensor(made[:, :channels]).reshape(number, steps, channels).movedim(1, 0)
    return torch.where(values.isnan(), filled.to(values), values)
