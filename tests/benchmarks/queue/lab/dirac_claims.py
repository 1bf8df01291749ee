"""Matches per second of DIRAC's TaskQueueDB: SOCKET SECONDS PROCESSES QUEUES JOBS. Run by its own Python, prints one number.

What is measured is ``TaskQueueDB.matchAndGetJob``, which picks a queue that a resource may serve and takes a job from it:
the middle of DIRAC's Matcher, called as a function of this process. Its service around it (RPC, the proxy's rights,
limits of sites, the job's state in JobDB) is not run. The configuration is in memory, there is no Configuration Server.
"""

import multiprocessing
import os
import sys
import time

from DIRAC import gLogger
from DIRAC.ConfigurationSystem.Client.ConfigurationData import gConfigurationData

OPTIONS = {  # all that it asks its configuration for
    "/Systems/Databases/Host": "localhost",
    "/Systems/Databases/User": "dirac",
    "/Systems/Databases/Password": "dirac",
    "/Systems/WorkloadManagement/Databases/TaskQueueDB/DBName": "TaskQueueDB",
    "/DIRAC/VirtualOrganization": "bench",
    "/Registry/Groups/bench_user/VO": "bench",
    "/Registry/Groups/bench_user/Properties": "NormalUser",
}
HOUR = 3600


def database(server):
    """A TaskQueueDB over the server at this socket; its tables are there."""
    os.environ["MYSQL_UNIX_PORT"] = server  # where the client library looks for localhost
    gLogger.setLevel("ERROR")
    for path, value in OPTIONS.items():
        gConfigurationData.setOptionInCFG(path, value)
    from DIRAC.WorkloadManagementSystem.DB.TaskQueueDB import TaskQueueDB

    return TaskQueueDB()


def wanted(number):
    """Queue ``number``: users, times, memory and places as lab/world.py has them, a tenth for big nodes."""
    return {
        "Owner": f"user{number % 20}",
        "OwnerGroup": "bench_user",
        "CPUTime": HOUR * (1 + number % 7),
        "MinRAM": 1024 * (2 + number % 3),
        "MaxRAM": 0,
        "Platforms": ["x86_64-el9"],
        "Sites": ["LCG.CERN.ch", f"LCG.T2-{number % 250:03d}.org"],
        "Tags": ["8Processors"] if number % 10 == 3 else [],
    }


OFFERED = {
    "Site": "LCG.CERN.ch",
    "GridCE": "ce1.cern.ch",
    "Platform": ["x86_64-el9"],
    "CPUTime": 24 * HOUR,
    "MaxRAM": 5 * 1024,
    "Tag": ["1Processors"],
}


def must(answer):
    if not answer["OK"]:
        raise SystemExit(answer["Message"])
    return answer["Value"]


def fill(db, queues, jobs):
    """``jobs`` wait in ``queues`` queues that DIRAC made itself; all but the first of each by one statement."""
    for table in (
        "tq_Jobs",
        *(f"tq_TQTo{name}" for name in ("Sites", "GridCEs", "BannedSites", "Platforms", "JobTypes", "Tags")),
    ):
        must(db._update(f"DELETE FROM `{table}`"))
    must(db._update("DELETE FROM `tq_RAM_requirements`"))
    must(db._update("DELETE FROM `tq_TaskQueues`"))
    for number in range(queues):
        must(db.insertJob(number + 1, wanted(number), 1))
    must(
        db._update(
            "INSERT INTO tq_Jobs (TQId, JobId, Priority, RealPriority)"
            f" SELECT j.TQId, j.JobId + {queues} * s.seq, j.Priority, j.RealPriority"
            f" FROM (SELECT * FROM tq_Jobs WHERE JobId <= {queues}) j, seq_1_to_{jobs // queues - 1} s"
        )
    )
    found = must(db._query("SELECT count(*), count(DISTINCT TQId) FROM tq_Jobs"))
    assert found[0] == (jobs, queues), found
    must(db._query("ANALYZE TABLE tq_Jobs, tq_TaskQueues"))


def match(server, seconds, ready, go, results):
    """One process: its own connection, one match after the other."""
    db = database(server)
    for _ in range(20):
        assert must(db.matchAndGetJob(OFFERED))["matchFound"]
    ready.release()
    go.wait()
    done, begin = 0, time.perf_counter()
    while time.perf_counter() < begin + seconds:
        assert must(db.matchAndGetJob(OFFERED))["matchFound"]
        done += 1
    results.put(done / (time.perf_counter() - begin))


def main(server, seconds, processes, queues, jobs):
    if queues:
        fill(database(server), queues, jobs)
    context = multiprocessing.get_context("spawn")
    ready, go, results = context.Semaphore(0), context.Event(), context.Queue()
    workers = [
        context.Process(target=match, args=(server, seconds, ready, go, results)) for _ in range(processes)
    ]
    for each in workers:
        each.start()
    for _ in workers:
        ready.acquire()
    go.set()
    print(sum(results.get(timeout=seconds + 60) for _ in workers))
    for each in workers:
        each.join()


if __name__ == "__main__":
    main(sys.argv[1], *(int(each) for each in sys.argv[2:]))
