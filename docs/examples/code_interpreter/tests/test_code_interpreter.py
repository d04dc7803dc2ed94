"""Whatever a user's cell does, that user's next one runs, and no other user notices."""

import os
from dataclasses import replace

import trio
import trio.testing
from code_interpreter import Limits, Service, open_service

LIMITS = Limits(seconds=1, output=10_000, memory=1 << 30)
PATIENT = replace(LIMITS, seconds=20)  # where no deadline is meant to pass
STUCK = "sum(range(10 ** 13))"  # C code that looks for no signals
TOO_MUCH = "more than 10000 bytes of output"


async def value(service: Service, user: str, code: str) -> str:
    answer = await service.run(user, code)
    assert answer.status == "ok", answer
    return answer.text.strip()


async def test_names_are_kept_when_a_cell_is_stopped():
    async with open_service(LIMITS) as service:
        assert await value(service, "ann", "kept = 1 + 1; kept") == "2"
        answer = await service.run("ann", "while True: pass")
        assert (answer.status, answer.text) == ("stopped", "")
        assert "DeadlineExceeded" in answer.error
        answer = await service.run("ann", "import re; re.match('(a+)+$', 'a' * 60 + 'b')")
        assert answer.status == "stopped"
        answer = await service.run("ann", "while True: print('x' * 50)")
        assert (answer.status, answer.error) == ("stopped", TOO_MUCH)
        assert len(answer.text) == 10_000
        answer = await service.run("ann", "bytearray(2 << 30)")
        assert (answer.status, answer.error) == ("error", "MemoryError")
        answer = await service.run("ann", "!read x\n1 / 0")
        assert (answer.status, answer.error) == ("error", "ZeroDivisionError: division by zero")
        assert await value(service, "ann", "kept") == "2"


async def test_output_of_every_kind_counts():
    async with open_service(PATIENT) as service:
        await value(service, "ann", "import comm; one = comm.create_comm('x')")
        for code in (
            "while True: display({'image/png': 'A' * 1000}, raw=True)",
            "shown = display(1, display_id=True)\nwhile True: shown.update('x' * 1000)",
            "while True: one.send('x' * 1000)",
            "while True: one.send(buffers=[bytes(1000)])",
        ):
            answer = await service.run("ann", code)
            assert (answer.status, answer.error) == ("stopped", TOO_MUCH)


async def test_each_user_has_names_of_their_own():
    async with open_service(PATIENT) as service:
        await value(service, "ann", "name = 'ann'")
        assert await value(service, "bob", "'name' in globals()") == "False"
        assert await value(service, "ann", "name") == "'ann'"


async def test_a_kernel_that_dies_and_one_that_does_not_stop_are_replaced(tmp_path):
    async def die(user: str) -> None:
        answer = await service.run(user, "print('so far', flush=True); import os; os._exit(1)")
        assert answer.status == "restarted"
        assert "exit code 1" in answer.error

    async def be_late(user: str) -> None:
        answer = await service.run(user, STUCK)
        assert answer.status == "restarted"
        assert "its names are lost" in answer.error

    async def print_too_much(user: str) -> None:
        code = f"try:\n    while True: print('x' * 50)\nexcept BaseException:\n    {STUCK}"
        answer = await service.run(user, code)
        assert answer.status == "restarted"

    async def be_cancelled(user: str) -> None:
        begun = tmp_path / "begun"
        code = f"open({str(begun)!r}, 'w')\n    {STUCK}"
        code = f"try:\n    {code}\nexcept BaseException:\n    {STUCK}"  # the stop may come early
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.run, user, code)
            while not begun.exists():  # noqa: ASYNC110  # the kernel makes it
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    async def see_it_replaced(user: str) -> None:
        await value(service, user, "name = 1")
        await ways[user](user)
        assert await value(service, user, "'name' in globals()") == "False"
        answer = await service.run(user, "bytearray(2 << 30)")  # the limit holds in the new one
        assert (answer.status, answer.error) == ("error", "MemoryError")

    ways = {"ann": die, "bob": be_late, "cyd": print_too_much, "dan": be_cancelled}
    async with open_service(LIMITS) as service, trio.open_nursery() as nursery:
        for user in ways:
            nursery.start_soon(see_it_replaced, user)


async def test_a_kernel_that_does_not_start_is_its_users_alone(tmp_path, monkeypatch):
    path = [str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    first = tmp_path / "sitecustomize.py"  # the interpreter's first module
    waits = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)"
    async with open_service(PATIENT) as service, trio.open_nursery() as nursery:
        await value(service, "ann", "kept = 1")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
        first.write_text("import os; os._exit(1)")
        answer = await service.run("bob", "1")
        assert answer.status == "no kernel"
        assert "exit code 1" in answer.error
        first.write_text(waits)
        nursery.start_soon(value, service, "bob", "1")
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(10):
            assert await value(service, "ann", "kept") == "1"
        (tmp_path / "go").touch()
