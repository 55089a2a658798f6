"""Entry of the program file. What it does is in `cli`; here is only decided where the modules are loaded from."""

from typing import List, Optional

from . import compiled

try:
    unpacked = compiled.use()
    from . import cli
except (ImportError, SyntaxError, EOFError, ValueError, OSError):
    if not unpacked:
        raise
    compiled.give_up()
    from . import cli


def main(argv: Optional[List[str]] = None) -> int:
    """Run one subcommand; the exit status."""
    return cli.main(argv)


if __name__ == "__main__":
    raise SystemExit(main())
