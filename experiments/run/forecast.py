"""Whether a run ends before its deadline."""

import time


class OutOfTime(Exception):
    """The run would not end before its deadline; its checkpoint is saved."""


class Forecast:
    """Whether a run is going to end in time, from the epochs between one that measured the test error and the next."""

    def __init__(self, deadline, wait):
        self.deadline, self.wait = deadline, wait
        self.began = None

    def reason_to_stop(self, step, total, at_end_of_epoch):
        """What is wrong with the time that is left; None if it will do."""
        now = time.monotonic()
        if self.deadline is None or step == total:
            return None
        if now > self.deadline:
            return f"the time is up at step {step} of {total}"
        if at_end_of_epoch and self.began is None:
            self.began = now, step
        elif at_end_of_epoch and step - self.began[1] >= self.wait:
            needed = (now - self.began[0]) / (step - self.began[1]) * (total - step)
            if now + needed > self.deadline:
                return f"it needs {needed / 60:.0f} more minutes, and {(self.deadline - now) / 60:.0f} are left"
        return None
