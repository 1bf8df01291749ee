"""Infrastructure Manager with its Dummy connector, run by the Python of the peers' environment:

    python im_manager.py MACHINES      (in a directory of its own)

Its manager is called as its REST service would call it, its state is its own SQLite file here, and nothing is
contextualised, so nothing goes over a network. Prints seconds as JSON: create, one_more, destroy.
"""

import json
import sys
import time
from pathlib import Path

from IM.auth import Authentication
from IM.config import Config
from IM.InfrastructureList import InfrastructureList
from IM.InfrastructureManager import InfrastructureManager
from IM.VirtualMachine import VirtualMachine

RADL = """
network net ()
system node (
 cpu.count >= 1 and memory.size >= 512m and net_interface.0.connection = 'net' and
 disk.0.os.name = 'linux' and disk.0.image.url = 'mock0://linux.for.ev.er/image' and
 disk.0.os.credentials.username = 'user' and disk.0.os.credentials.password = 'password'
)
deploy node %d
contextualize ()
"""


def running(manager, number, auth, wanted):
    """All machines of the infrastructure are there, and the manager says that they run."""
    machines = manager.get_infrastructure(number, auth).get_vm_list()
    states = manager.GetInfrastructureState(number, auth)["vm_states"]
    if len(machines) != wanted or set(states.values()) - {VirtualMachine.RUNNING, VirtualMachine.CONFIGURED}:
        raise SystemExit(f"{len(machines)} machines, {wanted} wanted: {states}")


def main():
    count = int(sys.argv[1])
    Config.DATA_DB = f"sqlite://{Path.cwd() / 'inf.dat'}"
    InfrastructureList.init_table()  # as its service does when it starts
    auth = Authentication([
        {"type": "InfrastructureManager", "username": "bench", "password": "bench"},
        {"id": "dummy", "type": "Dummy"},
    ])  # fmt: skip
    found, begun = {}, time.monotonic()
    number = InfrastructureManager.CreateInfrastructure(RADL % count, auth)
    running(InfrastructureManager, number, auth, count)
    found["create"], begun = time.monotonic() - begun, time.monotonic()
    InfrastructureManager.AddResource(number, RADL % 1, auth)
    running(InfrastructureManager, number, auth, count + 1)
    found["one_more"], begun = time.monotonic() - begun, time.monotonic()
    InfrastructureManager.DestroyInfrastructure(number, auth)
    found["destroy"] = time.monotonic() - begun
    if not Path("inf.dat").stat().st_size or InfrastructureList.get_inf_ids(auth):
        raise SystemExit("the infrastructure is still there, or was never kept")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
