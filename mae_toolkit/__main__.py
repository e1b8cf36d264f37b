"""Run the program ``mae-toolkit`` as ``python -m mae_toolkit``."""

from mae_toolkit.commands import main

if __name__ == '__main__':
    main()
