"""An S3 server that dies in the middle: an error that says so, nothing half-written."""

import os
import signal
import threading

import pytest
from tests.patience import until
from tests.sharing.server import BUCKET, keys_in

from isogloss.errors import InputError
from isogloss.store.places import open_place


@pytest.fixture
def place(server):
    setting = {"kind": "s3", "bucket": BUCKET, "prefix": "faults", "endpoint": server.endpoint}
    with keys_in(server.keys["lab"]):
        yield open_place(setting | {"publish": True})
    if server.process is None:
        server.start()


def test_a_server_that_dies_while_it_is_written_to_keeps_nothing_half(place, server, tmp_path):
    big = tmp_path / "big.h5"
    big.write_bytes(os.urandom(192 << 20))
    place.names()
    before = server.written()

    def kill() -> None:
        until(lambda: server.written() > before + (16 << 20), "the first parts")
        server.stop(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(InputError, match="s3://shared/faults: the server cannot be reached"):
        place.publish(big, "activations/m/d/en/big.h5")
    killer.join()
    server.start()
    assert not [name for name in place.names() if "big" in name]
    assert place.publish(big, "activations/m/d/en/big.h5")
    assert place.names() == {"activations/m/d/en/big.h5": 192 << 20}
    assert not place.publish(tmp_path / "big.h5", "activations/m/d/en/big.h5")


def test_a_server_that_dies_while_it_is_read_leaves_nothing_here(place, server, tmp_path):
    server.stop(signal.SIGKILL)
    with pytest.raises(InputError, match="the server cannot be reached"):
        place.fetch("activations/m/d/en/big.h5", tmp_path / "here" / "big.h5")
    assert not list((tmp_path / "here").iterdir())
