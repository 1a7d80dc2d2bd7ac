"""Several sandboxes at the same time, with asyncio.

    python examples/python/many.py [POOL]
"""

import asyncio
import sys

from sandlot import AsyncSandbox

pool = sys.argv[1] if len(sys.argv) > 1 else "python-pool"


async def square(number: int) -> int:
    """Computed in a sandbox of its own."""
    async with await AsyncSandbox.create(pool) as sandbox:
        done = await sandbox.run("python3", "-c", f"print({number} ** 2)")
        return int(done.check().stdout)


async def main() -> None:
    """All of them at once."""
    print(await asyncio.gather(*(square(number) for number in range(4))))


asyncio.run(main())
