import sys


def drive():
    *_, rarely, target = sys.argv
    del sys.argv[1:]
    main = type(sys)("__main__")
    main.__builtins__ = __builtins__
    more = {}
    if target == "-":
        exec(rarely, more)
        target = more["begin"]()
    sent = sys.stdin.buffer.read()
    size, _, rest = sent.partition(b"\n")
    source, event = rest[: int(size)], rest[int(size):]
    sys.modules["__main__"] = main
    try:
        exec(source, main.__dict__)
        handler = main.__dict__.get("handler")
        if not callable(handler):
            sys.exit("the code defines no handler(event): define one, its return value is the result")
        if event in (b"", b"{}"):
            event = {}
        else:
            import json
            event = json.loads(event)
        returned = handler(event)
        if returned is None:
            text = "null"
        else:
            more or exec(rarely, more)
            text = more["text_of"](returned)
        sys.stdout.flush()
    except SystemExit:
        raise
    except BaseException as error:
        more or exec(rarely, more)
        more["show"](error, source, main.__dict__)
        sys.exit(1)
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)


drive()
