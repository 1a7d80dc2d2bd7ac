"""The Python SDK against `sandlot up`."""

import asyncio

import pytest
from sandlot import (AsyncSandbox, CommandFailed, Connection, Sandbox, SandboxFailed, SandboxSession, SandlotError,
                     WarmPoolManager)


@pytest.fixture(scope="module")
def connection(machine):
    return Connection.find(str(machine.kubeconfig))


@pytest.fixture(scope="module")
def pool(connection):
    """A pool of two that all tests here claim from."""
    pools = WarmPoolManager(connection=connection, timeout=120)
    pools.create_warmpool("sdk", image="host", replicas=2)
    pools.wait_for_warmpool_ready("sdk")
    yield "sdk"
    pools.delete_warmpool("sdk")


@pytest.fixture
def sandbox(pool, connection):
    with Sandbox.create(pool, connection=connection) as sandbox:
        yield sandbox


def test_a_command_gives_its_output_and_code(sandbox):
    done = sandbox.run("sh", "-c", "echo out; echo err >&2; exit 3", env={"A": "1"})
    assert (done.exit_code, done.stdout, done.stderr) == (3, "out\n", "err\n")
    with pytest.raises(CommandFailed, match="exited with 3: err"):
        done.check()
    assert sandbox.run("echo $A-$((1+1))", env={"A": "x"}).stdout == "x-2\n"


def test_files_make_the_round_trip(sandbox):
    content = bytes(range(256)) * 1000
    sandbox.files.write("deep/er/data.bin", content)
    assert sandbox.files.read("deep/er/data.bin") == content
    sandbox.files.write("hello.txt", "grüße\n")
    assert sandbox.files.read_text("hello.txt") == "grüße\n"
    assert sandbox.files.list() == ["deep", "hello.txt"]
    sandbox.files.remove("deep")
    assert sandbox.files.list() == ["hello.txt"]


def test_output_comes_as_it_is_written(sandbox):
    chunks = sandbox.stream("sh", "-c", "echo one; read go; echo two", stdin=b"go\n")
    assert "".join(chunk.text for chunk in chunks if chunk.stream == "stdout") == "one\ntwo\n"
    with pytest.raises(CommandFailed, match="exited with 5"):
        list(sandbox.stream("sh", "-c", "exit 5"))
    with pytest.raises(CommandFailed, match="exited with 127.*no-such-program"):
        list(sandbox.stream("no-such-program"))


def test_the_asynchronous_twin_does_the_same(pool, connection):
    async def walk():
        async with await AsyncSandbox.create(pool, connection=connection) as sandbox:
            await sandbox.files.write("a.py", "print(6 * 7)")
            first, second = await asyncio.gather(sandbox.run("cat", "a.py"), sandbox.run("echo", "hi"))
            return first.stdout, second.stdout

    assert asyncio.run(walk()) == ("print(6 * 7)", "hi\n")


def test_the_arl_clients_calls_work(pool, connection):
    heard = []
    with SandboxSession(pool, connection=connection) as session:
        session.register_callback("on_task_success", lambda task: heard.append("success"))
        session.register_callback("on_task_failure", lambda task: heard.append("failure"))
        task = session.execute([
            {"name": "write", "type": "FilePatch", "path": "/workspace/x.sh", "content": "echo from-a-file"},
            {"name": "run", "type": "Command", "command": ["sh", "/workspace/x.sh"]},
        ], trace_id="t-1")
        assert task["status"]["stdout"] == "from-a-file\n"
        assert task["status"]["state"] == "Succeeded"
        session.execute([{"name": "fail", "type": "Command", "command": ["false"]}])
    assert heard == ["success", "failure"]


def test_mistakes_say_what_to_do(connection):
    with pytest.raises(SandlotError, match="there is no pool 'nowhere'"):
        WarmPoolManager(connection=connection).get_pool_status("nowhere")
    with pytest.raises(SandboxFailed, match="there is no pool 'nowhere'"):
        Sandbox.create("nowhere", connection=connection)
