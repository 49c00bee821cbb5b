"""What a failure of MLflow means: a store that is away and will be back, or one that somebody has to mend."""

import contextlib
import re
from collections.abc import Iterator

from a3m.errors import StoreError
from a3m.record.address import shown
from a3m.record.patience import StoreAway

CLOUD = ("botocore", "boto3", "google.", "azure.")  # artifact stores that a worker writes to by itself
PASSING = (408, 429, 500, 502, 503, 504)  # HTTP
REFUSALS = (
    "password authentication failed", "no password supplied", "no pg_hba.conf entry", "does not exist", "Access denied",
    "Unknown database",
)  # fmt: skip


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Name the store in whatever is raised: StoreAway for what passes by itself, StoreError for the rest."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        named = isinstance(error, MlflowException | SQLAlchemyError | ImportError | OSError)
        if not named and not type(error).__module__.startswith(CLOUD):
            raise
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        where = f"MLflow store {shown(uri)}: {first}"
        if passes(error, uri):
            raise StoreAway(where) from error
        raise StoreError(f"{where}: is it there, and writable? (store.uri)") from error


def passes(error: BaseException, uri: str) -> bool:
    """Whether the same call may work later without anybody mending a setting."""
    import requests
    from mlflow.exceptions import MlflowException, RestException
    from sqlalchemy import exc

    chain = list(_causes(error))
    for one in chain:
        if isinstance(one, requests.exceptions.SSLError):
            return False
        if isinstance(one, requests.exceptions.HTTPError) and one.response is not None:
            return one.response.status_code in PASSING
        if isinstance(one, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError):
            return True
        if isinstance(one, exc.OperationalError | exc.InterfaceError | exc.InternalError | exc.TimeoutError):
            text = str(one)
            return "locked" in text if uri.startswith("sqlite") else not any(refusal in text for refusal in REFUSALS)
        if isinstance(one, exc.DBAPIError) and one.connection_invalidated:
            return True
        if type(one).__module__.startswith(CLOUD):
            answer = getattr(one, "response", None)
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, dict) else None
            return status is None or status in PASSING
    if isinstance(error, MlflowException) and uri.startswith("http"):
        if isinstance(error, RestException) and "detail" in error.json:
            return False  # another web service answers there
        if re.search(r"psycopg2\.(InterfaceError|OperationalError)", str(error)):
            return True  # the server's database went away under it: MLflow calls some of these a bad request
        told = re.search(r"failed with error code (\d+) != 200", str(error))
        return int(told[1] if told else error.get_http_status_code()) in PASSING
    return False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
