"""``python -m onetape``: the command line, also where no script was installed."""
from onetape.cli.main import main

if __name__ == "__main__":
    main()
