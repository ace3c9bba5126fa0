"""The worker: makes last uses, recent events and counts out of the log, and drops what is too old. It can write only
what it makes: each consumer has a connection of its own rights, and none can read a token."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

from foregate.access.events.consumers import event_jobs
from foregate.access.events.retention import Limits, Retention
from foregate.core.clock import utc_now
from foregate.database.telemetry_schema import RETENTION
from foregate.eventlog.runner import run as run_consumers
from foregate.eventlog.seating import SeatedChore
from foregate.eventlog.troubles import Troubles
from foregate.services.carrying import Carrying
from foregate.services.folding import tell
from foregate.services.home import open_home
from foregate.services.kafka import kafka_access
from foregate.services.priority import give_way
from foregate.services.settings import Settings
from foregate.services.stores import stores_of, when_there


async def run(settings: Settings, told: asyncio.Event, *, name: str) -> None:
    """Run the consumers until told to end; the round that is under way is finished. `name`: of this process."""
    give_way()
    home = open_home(settings.home)
    telemetry = stores_of(settings).telemetry
    await when_there(telemetry.upgrade, told)
    if told.is_set():  # it may have been told before there was a schema to work on
        return
    stop = threading.Event()
    jobs = event_jobs(telemetry)
    housekeeping = telemetry.open(RETENTION)
    retention = Retention(housekeeping, Limits(settings.events_max_bytes, settings.events_max_age), utc_now)
    chore = SeatedChore(retention, housekeeping)
    # What a worker that was killed has left says nothing of this one.
    home.troubles(name).unlink(missing_ok=True)
    troubles = Troubles(partial(tell, home, name))
    running = [asyncio.to_thread(run_consumers, jobs, [chore], stop, utc_now, troubles)]
    if settings.kafka:
        carrying = Carrying(kafka_access(settings, home, "worker"), telemetry, troubles)
        running.append(asyncio.to_thread(carrying.run, stop))
    tasks = [asyncio.create_task(one) for one in running]
    ending = asyncio.create_task(told.wait())
    await asyncio.wait({*tasks, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    stop.set()
    try:
        await asyncio.gather(*tasks)
    finally:
        chore.leave()
        for database in (housekeeping, *(job.database for job in jobs)):
            database.close()
        home.troubles(name).unlink(missing_ok=True)
