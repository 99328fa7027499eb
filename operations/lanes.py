"""`manage.py lanes list|pause|resume`: stop a lane of mail, and let it go on.

A lane that is stopped loses nothing: its records stay in Kafka, its rows wait. The program stops a lane by itself where more than
half of its emails fail through our own fault, and goes on by itself; what a person stopped only a person resumes.
"""

import argparse
import getpass

from config.settings import Settings
from db import lanes, replay
from db.connection import Cursor
from intake.lanes import LANES
from operations import screen
from operations.store import open_database


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    group = commands.add_parser("lanes", help="stop a lane of mail, or let it go on").add_subparsers(required=True)
    group.add_parser("list", help="each lane, and who stopped it").set_defaults(run=show_list)
    stop = group.add_parser("pause", help="send nothing of a lane until it is resumed")
    stop.add_argument("lane", choices=LANES)
    stop.add_argument("--reason", default="", help="for whoever asks later")
    stop.set_defaults(run=pause)
    go_on = group.add_parser("resume", help="let a lane go on, whoever stopped it")
    go_on.add_argument("lane", choices=LANES)
    go_on.set_defaults(run=resume)


def show_list(settings: Settings, arguments: argparse.Namespace) -> int:
    stopped = {pause.lane: pause for pause in open_database(settings, "lanes").run(lanes.find)}
    rows = [_row(lane, stopped.get(lane)) for lane in LANES]
    print(screen.table(("lane", "state", "since (UTC)", "by", "why"), rows))
    return 0


def pause(settings: Settings, arguments: argparse.Namespace) -> int:
    lane, actor = arguments.lane, getpass.getuser()

    def work(cursor: Cursor) -> None:
        lanes.pause(cursor, lane, actor, arguments.reason)
        replay.audit(cursor, actor, "lanes pause", lane, {"reason": arguments.reason})

    open_database(settings, "lanes").run(work)
    print(f"{lane} is stopped within a second or two; what is in hand is finished. manage.py lanes resume {lane} ends it")
    return 0


def resume(settings: Settings, arguments: argparse.Namespace) -> int:
    lane = arguments.lane

    def work(cursor: Cursor) -> bool:
        was_stopped = lanes.resume(cursor, lane)
        if was_stopped:
            replay.audit(cursor, getpass.getuser(), "lanes resume", lane, {})
        return was_stopped

    was_stopped = open_database(settings, "lanes").run(work)
    print(f"{lane} goes on" if was_stopped else f"{lane} was not stopped")
    return 0 if was_stopped else 1


def _row(lane: str, stopped: lanes.Pause | None) -> tuple[str, ...]:
    if stopped is None:
        return lane, "runs", "", "", ""
    return lane, "stopped", f"{stopped.paused_at:%Y-%m-%d %H:%M:%S}", stopped.paused_by, stopped.reason
