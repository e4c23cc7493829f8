"""Fixtures that several test files share."""

import os
import shutil
import subprocess

import pytest


@pytest.fixture(scope="session")
def display():
    """Name of an X display that lives as long as the tests."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed (apt-get install xvfb)")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "800x700x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as server:
        os.close(writing)
        with os.fdopen(reading) as pipe:
            number = pipe.readline().strip()  # written once the display takes connections
        if not number:
            pytest.skip("Xvfb does not start here")
        yield f":{number}"
        server.terminate()
