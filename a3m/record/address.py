"""Where MLflow's store is: its full URI, and the URI as messages show it, without a password."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from a3m.errors import SettingsError


def full_uri(uri: str, root: Path) -> str:
    """The store's URI; empty is sqlite in the project, and a relative sqlite file lies there too: workers run elsewhere.

    Raises SettingsError for one that carries a password: it would reach workers, results and the list of processes.
    """
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{root / uri.removeprefix('sqlite:///')}"
    parts = urlsplit(uri)
    served = parts.scheme in ("http", "https")
    if parts.password or (served and parts.username) or "password" in parse_qs(parts.query):
        mend = (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            if served
            else "for PostgreSQL set PGPASSFILE or PGPASSWORD; for MySQL name a file with ?read_default_file="
        )
        raise SettingsError(
            f"store.uri={shown(uri)} carries a password: leave it out and {mend} in the environment of the driver and the workers"
        )
    return uri or f"sqlite:///{root / 'mlflow.db'}"


def shown(uri: str) -> str:
    """A URI without user, password and query: what messages show."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl() if parts.netloc else uri
