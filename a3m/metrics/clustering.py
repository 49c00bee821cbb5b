"""NMI of retrieval: k-means with one cluster a class, compared with the classes (Tables 4 and 5).

    NMI = 2 I(clusters, classes) / (H(clusters) + H(classes)),  I mutual information, H entropy

k-means is scikit-learn's, on L2-normalised embeddings, the best of ten starts. It runs in one thread: its threads add up
their parts in whatever order they finish, and a sum rounded otherwise can end in other clusters.
"""

import warnings

import numpy as np

from a3m.metrics import vectors
from a3m.metrics.vectors import ArrayOrTensor, integers, unit

STARTS = 10


def nmi(embeddings: ArrayOrTensor, labels: ArrayOrTensor, *, seed: int) -> float:
    """Normalised mutual information in [0, 1] of embeddings (N, D) clustered into as many as `labels` (N,) has classes.

    Same seed and same numbers: same result, however many threads there are. A collapsed network, whose vectors are all
    equal, scores 0. Raises ValueError on shapes that do not fit, NaN or infinity, fewer than two classes.
    """
    embeddings_ND = vectors.embeddings("embeddings", embeddings)
    labels_N = integers("labels", labels, len(embeddings_ND))
    classes, labels_N = np.unique(labels_N, return_inverse=True)
    if len(classes) < 2:
        raise ValueError("labels hold one class: clusters can only be compared with two or more")
    # Imported where used: scikit-learn takes a second.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import normalized_mutual_info_score
    from threadpoolctl import threadpool_limits

    means = KMeans(len(classes), n_init=STARTS, random_state=seed, algorithm="lloyd")
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different vectors than classes
        clusters_N = means.fit_predict(unit(embeddings_ND))
    return float(normalized_mutual_info_score(labels_N, clusters_N, average_method="arithmetic"))
