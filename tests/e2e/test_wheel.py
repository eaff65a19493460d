"""The wheel, installed outside the checkout, works like the checkout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Build the wheel and install it into a new folder; return environment variables to run from there."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, CHECKOUT], check=True, timeout=60
    )
    (wheel,) = wheels.glob("lmarena_bridge-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True, timeout=60)
    return {**os.environ, "PYTHONPATH": str(target)}


def test_the_installed_packages_are_imported_instead_of_the_checkout(installed: dict[str, str], tmp_path: Path) -> None:
    script = "import bridge, handlers, upstream; print(bridge.__file__, handlers.__file__, upstream.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", script], env=installed, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all(path.startswith(installed["PYTHONPATH"]) for path in found.stdout.split())


def test_the_commands_printed_by_the_installed_demo_work(installed: dict[str, str], tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "bridge", "demo", "--port", "0"],
        env=installed,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert demo.stdout is not None
    try:
        curl = next(line for line in demo.stdout if line.lstrip().startswith("curl") and "chat/completions" in line)
        answer = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, timeout=30, check=True).stdout
        assert answer.startswith('data: {"id":"chatcmpl-')
        assert answer.endswith("data: [DONE]\n\n")
        dashboard = next(line for line in demo.stdout if line.startswith("dashboard")).split()[1]
        page = subprocess.run(
            ["curl", "-sSL", dashboard], capture_output=True, text=True, timeout=30, check=True
        ).stdout
        assert '<link rel="stylesheet" href="/dashboard/static/style.css?v=' in page  # with its data files
    finally:
        demo.send_signal(signal.SIGINT)
        demo.stdout.close()
        assert demo.wait(10) == 0
