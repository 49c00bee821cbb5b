"""The search for settings, which knows neither Ray nor Optuna: its space, its trials, its memory and what comes out.

`search` is a whole search with TPE and ASHA, `evolution` one with a population; a3m.cluster.searching lets Ray run the first.
"""
