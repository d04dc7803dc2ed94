"""Whatever a user's cell does, that user's next one runs, and no other user notices."""

from code_interpreter import Limits, Service, open_service

LIMITS = Limits(seconds=0.5, characters=1000, memory=1 << 30)


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
        assert answer.status == "stopped"
        assert answer.error == "more than 1000 characters"
        assert len(answer.text) == 1000
        answer = await service.run("ann", "bytearray(2 << 30)")
        assert (answer.status, answer.error) == ("error", "MemoryError")
        answer = await service.run("ann", "!read x\n1 / 0")
        assert (answer.status, answer.error) == ("error", "ZeroDivisionError: division by zero")
        assert await value(service, "ann", "kept") == "2"


async def test_each_user_has_names_of_their_own():
    async with open_service(LIMITS) as service:
        await value(service, "ann", "name = 'ann'")
        assert await value(service, "bob", "'name' in globals()") == "False"
        assert await value(service, "ann", "name") == "'ann'"


async def test_a_kernel_that_dies_and_one_that_does_not_stop_are_replaced():
    async with open_service(LIMITS) as service:
        answer = await service.run("ann", "print('so far', flush=True); import os; os._exit(1)")
        assert answer.status == "restarted"
        assert "exit code 1" in answer.error
        assert await value(service, "ann", "'os' in globals()") == "False"
        answer = await service.run("ann", "sum(range(10 ** 13))")
        assert answer.status == "restarted"
        assert "its names are lost" in answer.error
        answer = await service.run("ann", "bytearray(2 << 30)")  # the limit holds in the new one
        assert (answer.status, answer.error) == ("error", "MemoryError")
