"""Write ops/chaos.md: `python -m ops.chaos`."""

from ops.chaos.table import DOCUMENT, read_runs, render

if __name__ == "__main__":
    DOCUMENT.write_text(render(read_runs()), encoding="utf-8")
