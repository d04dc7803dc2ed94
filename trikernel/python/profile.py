"""The user's IPython profile: its folder, configuration files, extensions, startup files.

They are read as IPython reads them for any kernel: ``ipython_config.py``, then
``ipython_kernel_config.py``, of the profile and of the whole system.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from typing import Any

from IPython.core.application import BaseIPythonApplication
from IPython.core.profiledir import ProfileDir, ProfileDirError
from IPython.core.shellapp import InteractiveShellApp
from traitlets import Bool
from traitlets.config import Config

from ..core import call_unprotected
from ..errors import UsageError
from ..kernel import Kernel
from .flags import ALIASES, FLAGS, apply_settings, leave_out_misfits, read_flags

__all__ = ["Profile", "made_profile_dir"]

_log = logging.getLogger("trikernel")


class Profile(BaseIPythonApplication, InteractiveShellApp):
    """One profile. An error in the user's files is logged or shown; the kernel goes on."""

    name = "ipython-kernel"
    aliases = ALIASES
    flags = FLAGS
    capture_fd_output = Bool(True, help="show what is written to descriptors 1 and 2").tag(
        config=True
    )
    _folder: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def read(cls, name: str, flags: Sequence[str] = ()) -> Profile:
        """The profile of that name, with its configuration; `UsageError` if there is none.

        ``flags`` are those of a command line; they take precedence over the files.
        """
        profile = cls(profile=name, log=_log)
        if flags:
            profile.cli_config = read_flags(flags, profile)  # merged last, after the files
            profile.update_config(profile.cli_config)
            name = profile.profile
            if "log_level" in profile.cli_config[cls.__name__]:
                _log.setLevel(profile.log_level)
        if name != "default":  # the default profile is created if it is missing, others are not
            try:
                ProfileDir.find_profile_dir_by_name(profile.ipython_dir, name)
            except ProfileDirError:
                raise UsageError(
                    f"there is no IPython profile {name!r}: "
                    f"`ipython profile create {name}` makes one"
                ) from None
        try:
            profile.init_profile_dir()
        except OSError as error:  # a full disk, for example
            profile = cls._elsewhere(error, profile.cli_config)
        profile.init_config_files()
        profile.load_config_file()
        for_any_kernel = profile.config.get("IPKernelApp")  # the name that users' files have
        if for_any_kernel:
            profile.update_config(Config(Profile=for_any_kernel))
        leave_out_misfits(profile.config)
        return profile

    @classmethod
    def _elsewhere(cls, error: OSError, flags: Config) -> Profile:
        """An empty profile in a temporary folder, which is removed when the process ends."""
        folder = tempfile.TemporaryDirectory(prefix="ipython-", ignore_cleanup_errors=True)
        _log.warning("the IPython folder cannot be used (%s); using %s", error, folder.name)
        config = Config(flags)
        config.pop("ProfileDir", None)
        config.Profile.ipython_dir = folder.name
        profile = cls(log=_log, config=config)
        profile.cli_config = config
        profile.init_profile_dir()
        profile._folder = folder
        return profile

    def configure(self, kernel: Kernel) -> None:
        """Set what the profile says about the kernel itself."""
        if not self.capture_fd_output:
            kernel.capture_output = False
        apply_settings(self.config, kernel)

    def start_in(self, shell: Any) -> None:
        """Load extensions and run startup code in the shell. An interrupt ends that early; it and a
        `SystemExit` are logged.
        """
        self.shell = shell
        self.init_path()
        try:
            call_unprotected(self.init_gui_pylab)
            call_unprotected(self.init_extensions)
            call_unprotected(self.init_code)
        except KeyboardInterrupt:
            _log.warning("the startup files of profile %r were interrupted", self.profile)
        except SystemExit as error:
            _log.warning("a startup file of profile %r exits: %s", self.profile, error)


def made_profile_dir(folder: str, name: str) -> Any:
    """IPython's object for a profile in ``folder``; missing folders are made. Raises `OSError`."""
    os.makedirs(folder, exist_ok=True)
    return ProfileDir.create_profile_dir_by_name(folder, name)
