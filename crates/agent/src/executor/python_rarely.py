import sys


def begin():
    """Waits for the places of the result and of the work. What code often needs is loaded once
    there is time for it: who waits for this interpreter would wait for that, too."""
    import os
    import select
    if not select.select([0], [], [], 0.05)[0]:
        import json
    sent = sys.stdin.buffer
    line = sent.readline()
    if not line:
        os._exit(0)
    target, folder = (os.fsdecode(sent.read(int(size))) for size in line.split())
    os.chdir(folder)
    return target


def text_of(returned):
    import json
    if hasattr(returned, "__await__"):
        import asyncio
        returned = asyncio.run(awaited(returned))
    try:
        return json.dumps(returned, allow_nan=False)
    except ValueError:
        return json.dumps(finite(returned), allow_nan=False)


async def awaited(returned):
    return await returned


def finite(value):
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def show(error, source, theirs):
    """The trace as the code's own, without what called it or worked on what it returned."""
    import linecache
    import traceback
    text = source.decode("utf-8", "replace")
    linecache.cache["<string>"] = (len(text), None, text.splitlines(True), "<string>")
    frames = error.__traceback__
    while frames and frames.tb_frame.f_globals is not theirs:
        frames = frames.tb_next
    sys.stdout.flush()
    traceback.print_exception(type(error), error, frames)
