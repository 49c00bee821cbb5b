"""Ray, on this machine or on a cluster. The only package that names it: `session` connects, `jobs` runs trials that are missing."""
