"""One sandbox, several tasks: files stay from one to the next.

    python examples/python/reuse.py [POOL]
"""

import sys

from sandlot import Sandbox

pool = sys.argv[1] if len(sys.argv) > 1 else "python-pool"

with Sandbox.create(pool, idle_timeout=600) as sandbox:
    sandbox.run("sh", "-c", "echo 'name,score\nada,3\ngrace,5' > data.csv").check()
    total = sandbox.run("awk", "-F,", "NR > 1 { sum += $2 } END { print sum }", "data.csv").check()
    print("total:", total.stdout.strip())

    failed = sandbox.run("sh", "-c", "echo no such luck >&2; exit 3")
    print("exit code:", failed.exit_code, "stderr:", failed.stderr.strip())
