"""A shell in a terminal, driven by a program.

    python examples/python/shell.py [POOL]
"""

import sys

from sandlot import Sandbox

pool = sys.argv[1] if len(sys.argv) > 1 else "python-pool"

with Sandbox.create(pool) as sandbox, sandbox.shell("sh", rows=40, columns=100) as shell:
    shell.type("stty size; echo do''ne\n")
    shown = shell.read_until("done")
    print("the terminal has 40 rows and 100 columns:", "40 100" in shown)
    shell.type("exit 7\n")
    while shell.read():
        pass
    print("the shell ended with", shell.exit_code)
