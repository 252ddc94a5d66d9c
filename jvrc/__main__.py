"""`python -m jvrc`, the same as the script `jvrc`."""

from jvrc.cli import run

if __name__ == "__main__":
    run()
