"""A call with an engine under contract."""

from bridge.engines.supervisor import Mind, Supervisor
from tests.unit.engines.line import Line

SPEED = 20
"""Times real time, as far as the machine can."""


class Call(Line):
    """A line whose engine is made by its name and supervised, as a call's is."""

    def __init__(self, far, agent, engine, **more):
        self.far, self.made = far, 1
        clock = lambda: self.at_ms / 1000  # noqa: E731

        async def make():
            self.made += 1
            return await far.create(agent)

        supervisor = Supervisor([Mind(agent, make)], engine, first_wait_s=0.0, clock=clock)
        super().__init__(supervisor, agent, real_time=True, speed=SPEED, **more)
        far.line = self
