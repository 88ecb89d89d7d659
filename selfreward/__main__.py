"""`python -m selfreward`."""

from selfreward.cli import main

if __name__ == "__main__":
    main()
