"""The grid from a Python program or a notebook.

    import asyncio
    from orchestrator.client import Grid

    JDL = '''
        Executable = "/bin/sh";
        Arguments  = "-c 'echo event $1'";
    '''

    async def main() -> None:
        async with Grid.open() as grid:
            job = await grid.submit(JDL, "42")
            async for event in job.follow():
                print(event["new"], event["reason"])
            print((await job.read("stdout")).decode(), end="")
            for path in await job.output("results"):
                print(path)
            await grid.files.put("results/stdout", "notes/event-42.txt")
            for entry in await grid.files.find("notes"):
                print(entry.path, entry.size)

    asyncio.run(main())

``Grid.open()`` uses the identity that `orchestrate login` kept, or the site spec in this directory, as the command
does. In a notebook: ``grid = await Grid.open()``, and ``await grid.close()`` at the end. Everything is asyncio; one Grid
may be used by many tasks at once. What cannot be done is an error of ``orchestrator.errors``: UserError (mend the input),
NotFound and NotAllowed among them, TemporaryError (try again), PermanentError.

Rows of jobs and transfers, events and the like are dictionaries as the REST API tells them; the functions that make
them (``orchestrator.jobs.client`` and so on) say what is in them.
"""

from orchestrator.client.files import Files
from orchestrator.client.grid import Grid
from orchestrator.client.jobs import Job, Jobs
from orchestrator.client.transfers import Transfer, Transfers

__all__ = ["Files", "Grid", "Job", "Jobs", "Transfer", "Transfers"]
