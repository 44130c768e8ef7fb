"""The guarantees of a transport as tests: subclass :class:`TransportContract` and give a URL.

    class TestMyTransport(TransportContract):
        @pytest.fixture
        def url(self) -> str:
            return "mine://somewhere"

The URL must mean the same log in every process, so a transport of your own needs its entry point.
Each test uses topics of its own, so that all may share one broker. For messages that show what
differs, call ``pytest.register_assert_rewrite("slstream.testing")`` in your ``conftest.py``.
"""

from __future__ import annotations

from slstream.testing.transport_ends import EndContract
from slstream.testing.transport_processes import ProcessContract
from slstream.testing.transport_records import RecordContract
from slstream.testing.transport_topics import TopicContract
from slstream.testing.transport_waiting import WaitContract


class TransportContract(RecordContract, TopicContract, WaitContract, ProcessContract, EndContract):
    """All guarantees of :mod:`slstream.transport.contract`. Define the fixture ``url``."""
