"""One question has one answer, in one module."""

from __future__ import annotations

import ast

import pytest

from .one_place import RULES, Rule, places


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.question)
def test_a_question_is_answered_in_one_module(rule: Rule) -> None:
    found = places(rule)
    lines = [f"{rule.question}: {len(found)} modules say so, and one should ({rule.why})"]
    for name, where in found.items():
        lines += [f"  {name}", *(f"    {line}" for line in where)]
    if len(found) != 1:
        pytest.fail("\n".join(lines), pytrace=False)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (0, "request.msg_type.removesuffix('_request') + '_reply'"),
        (0, "f'{name}_reply'"),
        (1, "f'kernel.{ident}.{msg_type}'.encode()"),
        (1, "b'kernel.' + ident"),
        (2, "token.run_sync_soon(event.set)"),
        (3, "handler.__module__.startswith('trikernel.')"),
        (3, "type(self).should_handle is Kernel.should_handle"),
        (3, "name.partition('.')[0] == 'trikernel'"),
        (4, "self.publish_status('busy', header)"),
        (4, "iopub.status(state='idle')"),
    ],
)
def test_a_rule_finds_what_it_is_for(number: int, code: str) -> None:
    assert any(RULES[number].found(node) for node in ast.walk(ast.parse(code)))


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (0, "self.reply('execute_request')"),
        (1, "Path('kernel.json')"),
        (3, "logging.getLogger('trikernel')"),
        (3, "name.startswith('__')"),
        (3, "type(error).__name__ == 'StdinNotImplementedError'"),
        (4, "message.content['execution_state'] == 'idle'"),
    ],
)
def test_a_rule_leaves_alone_what_it_is_not_for(number: int, code: str) -> None:
    assert not any(RULES[number].found(node) for node in ast.walk(ast.parse(code)))
