"""Train, resume, test and film: `python main.py --help`."""

import sys

if __name__ == "__main__":
    try:
        from ppo_and_friends.cli import main

        code = main()
    except KeyboardInterrupt:  # while something was still being imported
        code = 130
    sys.exit(code)
