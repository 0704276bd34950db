"""`pingvas up` on servers that can be broken: its supervisor, its programs, the real engine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pingvas.cli.programs import Program
from pingvas.cli.rest import Client
from tests.chaos.world import World, free_port, made
from tests.recovery.orders import SHORT, Customer, ended

GPU: Final = "gpu-worker"
_COMMAND: Final = str(Path(sys.executable).with_name("pingvas"))
_STOP_SECONDS: Final = 60.0


class Up:
    """The instance, with one customer."""

    def __init__(self, world: World) -> None:
        self.world, self.folder = world, world.folder
        self.customer = Customer(world.url)

    def pid(self, name: str) -> int:
        """Return the process id of a program, which leads a group of its own."""
        instance = self.folder.running()
        assert instance
        return instance.processes[name].pid

    def signal(self, name: str, number: int) -> float:
        """Send a program and its children a signal; return when."""
        pid, moment = self.pid(name), time.time()
        os.killpg(pid, number)
        return moment

    def kill(self, name: str) -> float:
        """Kill -9 a program and its children; return when."""
        return self.signal(name, signal.SIGKILL)

    def pingvas(self, *arguments: str) -> None:
        """Run the command line."""
        subprocess.run([_COMMAND, *arguments], check=True, capture_output=True, cwd=self.folder.path)

    def serves(self) -> bool:
        """Whether the API says that it is ready."""
        return Client(self.world.url).ready()

    def draw(self) -> float:
        """Order a small picture and wait for it; return when it was done."""
        return ended(self.customer.order(**SHORT))


@contextmanager
def running(broker: str) -> Iterator[Up]:
    """Run an instance with default settings, and wait until it has drawn."""
    with made({}, broker) as world:
        ports = ("--port", str(world.place.port), "--flower-port", str(free_port()))
        world.start(Program("up", (_COMMAND, "up", *ports, "--no-first-picture")))
        try:
            world.wait_ready()
            up = Up(world)
            up.draw()
            yield up
        finally:
            world.end("up", _STOP_SECONDS)
