"""`python -m foregate`: how the supervisor starts its children, whatever the PATH says."""

from __future__ import annotations

from foregate.cli.main import main

if __name__ == "__main__":
    main()
