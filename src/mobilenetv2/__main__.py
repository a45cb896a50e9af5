"""`python -m mobilenetv2`: the command line, for where the scripts' folder is not on PATH."""

from mobilenetv2.cli import main

if __name__ == "__main__":
    main()
