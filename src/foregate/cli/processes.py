"""The commands that run Foregate here, and those that look at what runs here: up, api, worker, echo, env, status,
doctor. (`foregate edge` is in `edges.py`, beside `foregate edge list`.)"""

from __future__ import annotations

import shlex
import time
from functools import partial
from typing import Annotated, Any

import typer

from foregate.cli.exits import ExitCode, Failure
from foregate.cli.output import note, print_facts, print_json, print_table
from foregate.services.lean import without_terminal

Number = Annotated[int, typer.Option(hidden=True, min=1, help="Which of several in this home it is.")]
Parent = Annotated[int | None, typer.Option(hidden=True, help="End when this process, our parent, dies.")]
Listener = Annotated[int | None, typer.Option(hidden=True, help="An open listening socket.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_ASKED_EVERY_SECONDS = 0.1


def _how_many(what: str) -> Any:
    # As `services/instances.py` has it, which need not be imported to say so.
    return typer.Option(min=1, max=8, help=f"How many {what}, for trying out several on one machine.")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    # Short help fits one line of the list of commands, where click would break off a sentence.
    app.command(short_help="Run API, worker, edge and the demo here.")(up)
    app.command(short_help="Start processes anew, one after another.")(restart)
    app.command()(api)
    app.command(short_help="Run the worker alone.")(worker)
    app.command(hidden=True)(echo)
    app.command(short_help="Print export lines for SDKs and Terraform.")(env)
    app.command(short_help="Show what runs for this home.")(status)
    app.command(short_help="Find what is wrong here.")(doctor)


def up(
    edges: Annotated[int, _how_many("edges")] = 1,
    workers: Annotated[int, _how_many("workers")] = 1,
    apis: Annotated[int, _how_many("API processes")] = 1,
) -> None:
    """Run API, worker, edge and the demo here, until Ctrl-C or SIGTERM."""
    import asyncio

    from foregate.services.board import open_board
    from foregate.services.instances import Counts
    from foregate.services.settings import load
    from foregate.services.supervisor import run

    settings, board = load(), open_board()
    try:
        has_ended_well = asyncio.run(run(settings, board, Counts(apis, workers, edges)))
    finally:
        board.close()
    if not has_ended_well:
        raise typer.Exit(ExitCode.FAILED)


def restart(
    names: Annotated[list[str] | None, typer.Argument(help="Processes, as `foregate status` names them.")] = None,
) -> None:
    """Start API, worker and edge anew, one after another, without a refused request: after an upgrade, say."""
    from foregate.services.home import Home
    from foregate.services.rolling import restart as restart_all
    from foregate.services.running import load_running

    restart_all(Home(load_running(note).home), names or (), note)


def api(
    parent: Parent = None,
    number: Number = 1,
    listener: Listener = None,
    feed_listener: Listener = None,
) -> None:
    """Run the control API alone."""
    without_terminal()
    from foregate.services.api import run
    from foregate.services.instances import instance_name
    from foregate.services.listening import inherit
    from foregate.services.process import run_process
    from foregate.services.settings import load

    sockets = [None if descriptor is None else inherit(descriptor) for descriptor in (listener, feed_listener)]
    runner = partial(run, listener=sockets[0], feed_listener=sockets[1])
    run_process(instance_name("api", number), runner, load(), parent=parent)


def worker(parent: Parent = None, number: Number = 1) -> None:
    """Run the worker alone: it turns events into last uses, recent events and counts."""
    without_terminal()
    from foregate.services.instances import instance_name
    from foregate.services.process import run_process
    from foregate.services.settings import load
    from foregate.services.worker import run

    name = instance_name("worker", number)
    run_process(name, partial(run, name=name), load(), parent=parent)


def echo(parent: Parent = None) -> None:
    """Run the demo's origin alone."""
    without_terminal()
    from foregate.services.echo import run
    from foregate.services.process import run_process
    from foregate.services.settings import load

    run_process("echo", run, load(), parent=parent, is_locked=False)


def env() -> None:
    """Print export lines for SDKs, Terraform and clients of the edge: eval "$(foregate env)"."""
    from foregate.services.environment import exports
    from foregate.services.running import load_running

    for name, value in exports(load_running(note)).items():
        print(f"export {name}={shlex.quote(value)}")


def status(
    wait: Annotated[float, typer.Option(min=0, help="Wait so many seconds for it to be ready.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show what runs for this home, and how well its events are folded. Exit code 0 if it is ready, 1 if not."""
    from foregate.core.clock import utc_now
    from foregate.services.edge_report import edge_problems
    from foregate.services.environment import edge_url
    from foregate.services.folding import read_folding
    from foregate.services.home import Home
    from foregate.services.running import load_running
    from foregate.services.status import read_status
    from foregate.services.stores import stores_of

    settings = load_running(note)
    home = Home(settings.home)
    deadline = time.monotonic() + wait
    found = read_status(home)
    while not found.is_ready and time.monotonic() < deadline:
        time.sleep(_ASKED_EVERY_SECONDS)
        found = read_status(home)
    folding = read_folding(home, stores_of(settings).telemetry, utc_now())
    if as_json:
        print_json({**found.to_json(), "events": folding.to_json()})
    else:
        state = "ready" if found.is_ready else f"not ready: {found.problem}" if found.pid else found.problem
        who = "-" if found.pid is None else f"{found.pid}, since {found.since}"
        where = {"control API": settings.api_url, "edge": f"{edge_url(settings)}, {edge_url(settings, is_tls=True)}"}
        is_there = any(process.pid for process in found.processes)
        print_facts({"home": found.home, "state": state, "supervisor": who, **(where if is_there else {})})
        rows = [(process.name, process.state, process.pid, process.restarts) for process in found.processes]
        print_table(("process", "state", "pid", "restarts"), rows)
        for problem in edge_problems(home) or ():
            note(f"edge: {problem}")
        for problem in folding.problems:
            note(f"events: {problem}")
    if not found.is_ready:
        raise typer.Exit(ExitCode.FAILED)


def doctor(as_json: AsJson = False) -> None:
    """Find what is wrong here: ports, programs, versions, disk, clock, rights. Exit code 1 if anything is."""
    from foregate.services.doctor import examine
    from foregate.services.running import load_running

    findings = examine(load_running(note))
    if as_json:
        print_json([finding.to_json() for finding in findings])
    else:
        print_table(("check", "verdict", "found"), [(f.check, f.verdict, f.found) for f in findings])
    wrong = [finding for finding in findings if finding.is_wrong]
    if wrong:
        for finding in wrong:
            note(f"{finding.check}: {finding.advice}")
        raise Failure(ExitCode.FAILED, f"{len(wrong)} of {len(findings)} checks found something wrong.")
