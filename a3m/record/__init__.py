"""Everything between a trial and MLflow. `runs` is the store and what lies in it, `recording` writes the run of one trial.

What a trial has to say is on disk before it is sent (`spool`), and a store that is away is waited for (`patience`, `failures`).
What a run shows: its description (`notes`), its data (`inputs`), its pictures (`shown`). `registry` holds the best models,
`database` reads a store of many runs at once, `address` and `links` say where a store is and where a run is seen.
"""
