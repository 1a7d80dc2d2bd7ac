import sys


def drive():
    target = sys.argv.pop()
    if target == "-":
        target = begin()
    sent = sys.stdin.buffer.read()
    size, _, rest = sent.partition(b"\n")
    source, event = rest[: int(size)], rest[int(size):]
    main = type(sys)("__main__")
    main.__builtins__ = __builtins__
    sys.modules["__main__"] = main
    try:
        exec(compile(source, "<code>", "exec", dont_inherit=True), main.__dict__)
        handler = main.__dict__.get("handler")
        if not callable(handler):
            sys.exit("the code defines no handler(event): define one, its return value is the result")
        returned = handler(value_of(event))
        if hasattr(returned, "__await__"):
            import asyncio
            returned = asyncio.run(awaited(returned))
        text = text_of(returned)
        sys.stdout.flush()
    except SystemExit:
        raise
    except BaseException as error:
        show(error, source)
        sys.exit(1)
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)


def begin():
    import json
    import os
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)
    target, folder = json.loads(line)
    os.chdir(folder)
    return target


async def awaited(returned):
    return await returned


def value_of(event):
    if event in (b"", b"{}"):
        return {}
    import json
    return json.loads(event)


def text_of(returned):
    if returned is None:
        return "null"
    if type(returned) is int:
        return str(returned)
    import json
    try:
        return json.dumps(returned, allow_nan=False)
    except ValueError:
        return json.dumps(finite(returned), allow_nan=False)


def finite(value):
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def show(error, source):
    import linecache
    import traceback
    text = source.decode("utf-8", "replace")
    linecache.cache["<code>"] = (len(text), None, text.splitlines(True), "<code>")
    frames = error.__traceback__.tb_next
    sys.stdout.flush()
    traceback.print_exception(type(error), error, frames)


drive()
