"""``python -m training <stage> recipe.toml``."""

from training.cli import main

if __name__ == "__main__":
    main()
