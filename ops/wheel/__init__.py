"""The package `withdrawals` as it is installed: it holds the folders `ops`, `worker` and `schemas` of the repository.

Names as common as those would clash with other packages in site-packages, so the wheel puts the folders inside this
package, unchanged. The program finds them under their own names, because it puts this folder on its path, and on that
of the processes that it starts. Nothing else sees those names (ops/decisions/0032). For producers there is the package
`withdrawals-client`.
"""

import sys
from pathlib import Path


def main() -> None:
    """Run the command line."""
    here = Path(__file__).resolve().parent
    if (here / "ops").is_dir():  # else this is a checkout that was installed in place
        sys.path.insert(0, str(here))
    from ops.cli import main as run  # noqa: PLC0415 - the path has to be known first

    run()
