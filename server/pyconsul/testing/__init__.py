"""Real agents for tests: one, or a cluster, in this process or in a child.

``with run_agent() as agent`` and ``with run_cluster() as cluster``; fixtures of
the same are in ``pyconsul.testing.plugin``. ``prepare()`` begins what the first
child needs. Guide: ``docs/testing.md``.
"""

from pyconsul.testing.children import prepare
from pyconsul.testing.harness import Agent, Cluster, run_agent, run_cluster

__all__ = ["Agent", "Cluster", "prepare", "run_agent", "run_cluster"]
