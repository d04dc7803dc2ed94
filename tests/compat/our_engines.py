"""A pytest plugin: ipyparallel's own tests start trikernel's engines in place of its own."""

from __future__ import annotations

import sys

from ipyparallel.cluster import launcher

COMMAND = [sys.executable, "-m", "trikernel.engine"]

launcher.ipengine_cmd_argv[:] = COMMAND
launcher.EngineLauncher.engine_cmd.default_args = (list(COMMAND),)
