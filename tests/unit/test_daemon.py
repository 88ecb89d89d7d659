"""Parts of the daemon that need no daemon."""

from datetime import time

import pytest

from selfreward.schedule import in_window


@pytest.mark.parametrize(
    ("window", "moment", "open_"),
    [
        ("20:00-08:00", time(23, 0), True),
        ("20:00-08:00", time(3, 0), True),
        ("20:00-08:00", time(20, 0), True),
        ("20:00-08:00", time(8, 0), False),
        ("20:00-08:00", time(12, 0), False),
        ("09:00-17:30", time(9, 0), True),
        ("09:00-17:30", time(17, 29), True),
        ("09:00-17:30", time(17, 30), False),
        ("09:00-17:30", time(3, 0), False),
    ],
)
def test_run_windows_may_span_midnight(window: str, moment: time, open_: bool) -> None:
    assert in_window(window, moment) is open_
