import uuid

from gateway.queue.call import new_ids


def test_ids_are_uuids_of_version_7_in_their_order() -> None:
    make = new_ids()
    ids = [make() for _ in range(20_000)]
    assert ids == sorted(set(ids))
    for text in ids[::1000]:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


def test_ids_of_two_sources_differ() -> None:
    one, other = new_ids(), new_ids()
    assert not {one() for _ in range(5000)} & {other() for _ in range(5000)}
