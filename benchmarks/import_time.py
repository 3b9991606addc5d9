"""What ``import xfer2`` costs beside ``import mxnet``: each in processes of its own, in turn; medians.

mxnet is imported with the NumPy aliases it misses, as it cannot be imported without.
"""

import statistics
import subprocess
import sys
import time

ALIASES = "import numpy as n\nfor k in ('bool','int','float','object','complex','str'): vars(n).setdefault(k, eval(k))\n"
BOTH = {"import mxnet": ALIASES + "import mxnet", "import xfer2": "import xfer2"}
RUNS = 15


def main():
    seconds = {name: [] for name in BOTH}
    for _ in range(RUNS + 1):
        for name, code in BOTH.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.3f} s")
    print(f"ratio: {medians['import xfer2'] / medians['import mxnet']:.3f}")


if __name__ == "__main__":
    main()
