"""A virtual machine with an enforcing SELinux kernel, for what containers cannot show.

with Machine() as machine:
    print(machine.output("getenforce"))
    machine.reset()
"""

from .machine import Machine
from .needs import why_not

__all__ = ["Machine", "why_not"]
