"""The container's files: hadolint, and the steps of the Dockerfile in virtual environments."""

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "integrations" / "docker"
TEXT = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
LINES = [line.split(maxsplit=1) for line in TEXT.splitlines() if line and not line.startswith("#")]


def arguments(instruction: str) -> list[str]:
    return [line[1] for line in LINES if line[0] == instruction]


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).with_name("hadolint")
    subprocess.run([hadolint, FOLDER / "Dockerfile"], check=True)


def test_what_is_copied_is_there_and_sent_to_the_builder():
    sent = [line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [name for line in arguments("COPY") for name in line.split()[:-1]]
    assert sorted(copied) == sorted(sent) and all((ROOT / name).exists() for name in copied)


def test_it_serves_as_a_user_without_rights():
    (user,) = arguments("USER")
    assert int(user) > 0
    assert json.loads(arguments("ENTRYPOINT")[0]) == ["depth-anything"]
    assert json.loads(arguments("CMD")[0])[:3] == ["serve", "--host", "0.0.0.0"]


def test_compose_builds_this_file():
    service = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["depth-anything"]
    context = (FOLDER / service["build"]["context"]).resolve()
    assert context == ROOT and (context / service["build"]["dockerfile"]) == FOLDER / "Dockerfile"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.slow
def test_the_steps_in_virtual_environments(tmp_path):
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    source.mkdir()
    for line in arguments("COPY"):
        for name in line.split()[:-1]:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, source / name)
    steps = [re.sub(r"--mount=\S+ ", "", line).strip() for line in arguments("RUN")]
    build, _, install = steps
    for step, environment in ((build, "build"), (install, "run")):
        subprocess.run([sys.executable, "-m", "venv", tmp_path / environment], check=True)
        pip = step.replace("/wheels", str(wheels)).replace("pip ", f"{tmp_path}/{environment}/bin/pip ", 1)
        subprocess.run(pip, shell=True, check=True, cwd=source)
    installed = tmp_path / "run" / "bin"
    listed = subprocess.run([installed / "pip", "list"], check=True, capture_output=True, text=True).stdout
    assert "torch" not in listed
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = [*json.loads(arguments("CMD")[0])]
    served[served.index("8000")] = str(port)
    health = json.loads(arguments("HEALTHCHECK")[0].split("CMD", 1)[1])
    health = [str(installed / "python"), *(word.replace(":8000", f":{port}") for word in health[1:])]
    server = subprocess.Popen([installed / "depth-anything", *served], cwd=tmp_path)
    try:
        give_up = time.monotonic() + 120
        while subprocess.run(health, capture_output=True).returncode:
            assert server.poll() is None and time.monotonic() < give_up, shlex.join(health)
            time.sleep(0.5)
    finally:
        server.terminate()
        server.wait(30)
    assert subprocess.run(health, capture_output=True).returncode, "the check must fail when nothing serves"
