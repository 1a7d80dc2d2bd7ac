"""The manual's walk with the ARL client's calls: a pool, a session, a task of two steps.

    python examples/python/pool.py [IMAGE]
"""

import sys

from sandlot import SandboxSession, WarmPoolManager

image = sys.argv[1] if len(sys.argv) > 1 else "python:3.9-slim"

pools = WarmPoolManager(namespace="default")
pools.create_warmpool("example-pool", image=image, replicas=1)
try:
    pools.wait_for_warmpool_ready("example-pool")
    with SandboxSession("example-pool", namespace="default") as session:
        session.register_callback("on_task_success", lambda task: print("succeeded:", task["metadata"]["name"]))
        task = session.execute(
            [
                {
                    "name": "write-script",
                    "type": "FilePatch",
                    "path": "/workspace/hello.py",
                    "content": 'print("Hello from ARL!")',
                },
                {"name": "run-script", "type": "Command", "command": ["python3", "/workspace/hello.py"]},
            ],
            trace_id="example-1",
        )
        print(task["status"]["stdout"], end="")
finally:
    pools.delete_warmpool("example-pool")
