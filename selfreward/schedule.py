"""What a daemon does periodically: backups, looks at its run window. Nothing else hangs on the scheduler."""

from collections.abc import Awaitable, Callable
from datetime import datetime, time, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from selfreward.config import Settings

Job = Callable[[], Awaitable[None]]


def start(settings: Settings, back_up: Job | None, set_open: Callable[[bool], None]) -> AsyncIOScheduler:
    """Fires until it is shut down. `set_open` is told, now and every minute, whether the window is open."""
    scheduler = AsyncIOScheduler()
    minutes, window = settings.daemon.backup_every_minutes, settings.daemon.run_window
    if minutes and back_up is not None:
        scheduler.add_job(back_up, IntervalTrigger(minutes=minutes), max_instances=1, coalesce=True)
    if window:

        def look() -> None:
            set_open(in_window(window, datetime.now().time()))

        look()
        next_minute = datetime.now().replace(second=0) + timedelta(minutes=1)
        trigger = IntervalTrigger(minutes=1, start_date=next_minute)
        scheduler.add_job(look, trigger, max_instances=1, coalesce=True)
    scheduler.start()
    return scheduler


def in_window(window: str, moment: time) -> bool:
    """Whether a time of day lies in "HH:MM-HH:MM"; one that ends before it starts spans midnight."""
    opens, closes = (time.fromisoformat(part) for part in window.split("-"))
    return opens <= moment < closes if opens <= closes else moment >= opens or moment < closes
