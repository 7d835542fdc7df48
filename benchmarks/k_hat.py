"""How noisy the k̂ of PSIS is: the share of data above .7 where the true k is known.

A normal guide with c times the standard deviation of a normal posterior has weights whose tail has k = 1 - c². Usage:
python benchmarks/k_hat.py; prints a table.
"""

import numpy as np

from pyro_hfvae.posterior.inference_data import pareto_k

DATA = 2000


def main() -> None:
    random = np.random.default_rng(0)
    print("| true k | 200 draws | 1,000 draws |\n| --- | --- | --- |")
    for k in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        shares = []
        for draws in (200, 1000):
            z = random.normal(size=(draws, DATA))  # the guide in units of its own deviation
            shares.append((pareto_k(0.5 * z**2 * k) > 0.7).mean())  # log p - log q = z²/2 - (1 - k) z²/2
        print(f"| {k} | {' | '.join(f'{share:.1%}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main()
