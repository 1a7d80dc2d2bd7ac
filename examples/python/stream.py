"""Output as it is made, line by line, without waiting for the end.

    python examples/python/stream.py [POOL]
"""

import sys

from sandlot import Sandbox

pool = sys.argv[1] if len(sys.argv) > 1 else "python-pool"

with Sandbox.create(pool) as sandbox:
    for chunk in sandbox.stream("sh", "-c", "for n in 1 2 3; do echo line $n; sleep 0.1; done"):
        print(chunk.text, end="", flush=True)
