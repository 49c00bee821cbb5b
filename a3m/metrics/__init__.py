"""What is measured: rankings, clusters, classes, re-ranking, localisation; fractions in [0, 1], numpy or torch in."""
