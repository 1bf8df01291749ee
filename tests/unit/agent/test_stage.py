"""Which files an OutputFile list stands for, and how patience works."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.agent.processmonitor import obey, tail
from orchestrator.agent.stage import choose, patiently, too_few
from orchestrator.errors import PermanentError, TemporaryError
from orchestrator.jobs.model import OutputSpec, output_spec
from orchestrator.runtime.clock import SystemClock
from orchestrator.tasks.model import Command, Output


def test_choose(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "sub").mkdir(parents=True)
    for name in ("stdout", "a.root", "b.root", "sub/c.root", "sub/a.root", ".hidden.root"):
        (work / name).touch()
    (tmp_path / "secret.root").touch()
    (work / "link.root").symlink_to(tmp_path / "secret.root")
    specs = [OutputSpec("stdout"), OutputSpec("*.root"), OutputSpec("*.root"), OutputSpec("none*")]
    choice = choose(work, specs)
    assert [file.path.name for file in choice.files] == ["stdout", "a.root", "b.root"]
    assert (choice.missing, choice.clashes) == (("none*",), ())
    assert choice.unsafe == ("link.root: a link to outside the work directory",)
    assert choose(work, [OutputSpec("**/*.root")]).clashes == ("a.root",)
    assert choose(work, [OutputSpec("../secret.root"), OutputSpec("sub")]).files == ()


def test_too_few() -> None:
    from orchestrator.agent.stage import Chosen

    root = Path("/w")
    files = [Chosen(root / "a", output_spec("a@disk=2"), root), Chosen(root / "b", output_spec("b"), root)]
    outputs = [Output(f"/o/{name}", "g", 0, "", "", "se", "p") for name in ("a", "b")]
    assert too_few(files, outputs) == ["a"]


async def test_patience_ends_and_permanent_errors_need_none() -> None:
    tries = []

    async def fails() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise TemporaryError("later", retry_in=0.001)
        return 7

    assert await patiently(fails, SystemClock(), 5, pause=0.001) == 7
    tries.clear()
    with pytest.raises(TemporaryError):
        await patiently(fails, SystemClock(), 0, pause=0.001)

    async def broken() -> int:
        tries.append(1)
        raise PermanentError("never")

    tries.clear()
    with pytest.raises(PermanentError):
        await patiently(broken, SystemClock(), 5)
    assert len(tries) == 1


def test_peek_shows_the_end_of_what_was_printed(tmp_path: Path) -> None:
    out = tmp_path / "stdout"
    assert tail(out) == ""
    out.write_bytes(b"one\ntwo\xff\n")
    assert tail(out) == "one\ntwo�\n"
    assert tail(out, 7) == "…two�\n"


def test_obey() -> None:
    class Job:
        streams = (Path("/nowhere/out"), Path("/nowhere/err"))
        told = ""

        def kill(self, why: str) -> None:
            self.told = f"kill {why}"

        def preempt(self, why: str) -> None:
            self.told = f"preempt {why}"

    job = Job()
    assert obey(Command(1, 2, 3, "peek"), job) == {"stdout": "", "stderr": ""}
    assert obey(Command(1, 2, 3, "kill", {"reason": "by ada"}), job) == {}
    assert job.told == "kill by ada"
    obey(Command(1, 2, 3, "preempt"), job)
    assert job.told == "preempt told to leave"
