"""One test for each requirement of the protocol, on the echo kernel in memory."""

import pytest
from echo_kernel import EchoKernel

from trikernel.testing import Samples, assert_meets, requirements_of

ECHO = Samples(code="hello", printing="hello")


@pytest.mark.trio
@pytest.mark.parametrize("requirement", requirements_of("core", "comm"), ids=str)
async def test_the_echo_kernel_conforms(requirement):
    await assert_meets(requirement, EchoKernel(), ECHO)
