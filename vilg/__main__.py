"""python -m vilg VERB ... is vilg VERB ..."""

import sys

from vilg.run.cli import main

if __name__ == "__main__":
    sys.exit(main())
