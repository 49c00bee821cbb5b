"""A laboratory of several hosts on this machine: `hosts` makes them, `services` runs Ray, PostgreSQL and MLflow on them."""
