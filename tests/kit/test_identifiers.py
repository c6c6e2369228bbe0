"""Ids sort by time, and no two processes make the same one."""

import multiprocessing

from modelyard.kit.identifiers import new_id

FORK = multiprocessing.get_context("fork")


def test_later_ones_sort_after_earlier_ones() -> None:
    made = [new_id("job") for _ in range(20_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {len(each) for each in made} == {len("job_") + 32}


def test_forks_of_one_process_make_different_ones() -> None:
    new_id("job")  # the generator is at work already
    with FORK.Pool(8, maxtasksperchild=1) as pool:
        made = pool.map(new_id, ["job"] * 64, chunksize=1)
    assert len(set(made)) == 64
    assert len({each[-16:] for each in made}) == 64, "the random part must differ too: clocks may agree"
