"""One's own sequences: read, fitted, forecast, filled, judged.

::

    from pyro_gtm import series

    data = series.read("load.csv")
    past, future = data.split_time(0.2)
    model = series.fit(past)
    model.forecast(past, horizon=24).plot("forecast.png")
    model.save("runs/load")

The same on the command line: ``pyro-gtm series fit``, ``forecast``, ``impute``, ``surprise``,
``generate`` and ``evaluate``.  Values keep their units: what is fitted is standardised inside, and
undone in every output.

One file a verb; ``data`` is what a series is, ``reading`` has one file a format, ``model`` holds
program, memory and scaling together.
"""

from pyro_gtm.series.clock import Spacing
from pyro_gtm.series.data import Series
from pyro_gtm.series.fitting import fit, resume
from pyro_gtm.series.forecasting import Forecast, forecast
from pyro_gtm.series.generating import Generated, generate
from pyro_gtm.series.imputing import Imputation, impute
from pyro_gtm.series.model import SeriesModel, load
from pyro_gtm.series.reading import Columns, DataFileError, read, series_of_frame
from pyro_gtm.series.scaling import Scaling
from pyro_gtm.series.scoring import Scores, backtest, evaluate, fair_crps, naive_forecast, score
from pyro_gtm.series.settings import Settings
from pyro_gtm.series.surprising import Surprise, surprise

__all__ = [
    "Columns",
    "DataFileError",
    "Forecast",
    "Generated",
    "Imputation",
    "Scaling",
    "Scores",
    "Series",
    "SeriesModel",
    "Settings",
    "Spacing",
    "Surprise",
    "backtest",
    "evaluate",
    "fair_crps",
    "fit",
    "forecast",
    "generate",
    "impute",
    "load",
    "naive_forecast",
    "read",
    "resume",
    "score",
    "series_of_frame",
    "surprise",
]
