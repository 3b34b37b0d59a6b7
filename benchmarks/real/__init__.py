"""Real series, and the classical forecasts and imputations they are judged beside."""
