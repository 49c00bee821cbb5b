"""A3M (Han et al., MM 2018): its networks, losses and metrics, trials, studies, and the tables made of them."""
