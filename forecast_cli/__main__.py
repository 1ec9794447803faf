"""`python -m forecast_cli` is the same as `forecast`; torchrun starts it this way."""

from forecast_cli.cli import main

if __name__ == "__main__":
    main()
