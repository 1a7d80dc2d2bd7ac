"""A sandbox, a file in it, and a program run: the shortest walk there is.

    python examples/python/hello.py [POOL]
"""

import sys

from sandlot import Sandbox

pool = sys.argv[1] if len(sys.argv) > 1 else "python-pool"

with Sandbox.create(pool) as sandbox:
    sandbox.files.write("hello.py", "print('Hello from Sandlot!')")
    print(sandbox.run("python3", "hello.py").check().stdout, end="")
