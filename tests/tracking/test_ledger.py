from harness.tracking.ledger import FAILED, FINISHED, RUNNING, Entry, Ledger


def test_the_last_line_of_each_key_counts(tmp_path):
    ledger = Ledger(tmp_path / "study")
    assert ledger.last("p/1") == {}
    lines = [
        Entry("k", "r1", FINISHED, "p/1", "d1"),
        Entry("k", "r2", RUNNING, "p/1"),
        Entry("l", "r3", FAILED, "p/1", "d3"),
        Entry("k", "r4", FINISHED, "p/2", "d4"),
        Entry("k", "r5", FINISHED, "q/1", "d5"),
    ]
    for line in lines:
        ledger.add(line)
    again = Ledger(tmp_path / "study")
    assert again.last("p/1") == {"k": lines[1], "l": lines[2]}
    assert again.ended("p/1") == {"k": lines[0], "l": lines[2]}
    assert again.place("p") == "p/2"
    assert again.place("z") is None


def test_a_torn_line_counts_for_nothing_and_spoils_nothing(tmp_path):
    ledger = Ledger(tmp_path)
    first, second = (Entry(key, "r", FINISHED, "p/1", "d") for key in "ab")
    ledger.add(first)
    path = tmp_path / "mirrored.jsonl"
    path.write_bytes(path.read_bytes() + b'{"key": "torn", "run_id": "\xff')
    assert set(ledger.last("p/1")) == {"a"}
    ledger.add(second)
    path.write_bytes(path.read_bytes() + b'[1, 2]\n{"other": 1}\n')
    assert ledger.last("p/1") == {"a": first, "b": second}
