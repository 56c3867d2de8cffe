"""`python -m service` is `groundswell`: how the embedded stack starts its own parts."""

from service.cli import main

if __name__ == "__main__":
    main()
