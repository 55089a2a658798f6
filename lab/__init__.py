"""A lab of real nodes on one machine: systemd containers with their own network, sshd, package manager and disk.

with Lab() as lab:
    node = lab.add("web1", "el9")
    lab.up(node)
    print(node.ssh("dnf -y install nginx").stdout)
"""

from .core import Lab
from .host import ImageMissing, LabError, LabUnavailable, why_not
from .images.cache import Image
from .node import Node
from .sweep import sweep

__all__ = ["Image", "ImageMissing", "Lab", "LabError", "LabUnavailable", "Node", "sweep", "why_not"]
