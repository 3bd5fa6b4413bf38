"""The order of what waits."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from serving.fair_queue import FairQueue


def drained(queue: FairQueue[str]) -> list[str]:
    order = []
    while queue:
        first = next(iter(queue))
        queue.take(first)
        order.append(first)
    return order


def test_one_client_is_served_in_its_order() -> None:
    queue: FairQueue[str] = FairQueue()
    for name in "abcd":
        queue.put(name, "client", 10)
    assert drained(queue) == list("abcd")


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.integers(0, 9)), max_size=30)
)
def test_a_cost_that_is_known_late_is_as_one_that_was_known(
    works: list[tuple[str, int, int]],
) -> None:
    """Of those that wait behind it; `more` is what each first turned out to cost."""
    late: FairQueue[int] = FairQueue()
    known: FairQueue[int] = FairQueue()
    for client in "ab":
        late.charge(client, 0)
    extra = dict.fromkeys("ab", 0)
    for number, (client, cost, more) in enumerate(works):
        late.put(number, client, cost)
        first = all(other != client for other, _, _ in works[:number])
        extra[client] += more if first else 0
        known.put(number, client, cost + (more if first else 0))
    firsts = {
        client: next((n for n, w in enumerate(works) if w[0] == client), None) for client in "ab"
    }
    for queue in (late, known):
        for number in firsts.values():
            if number is not None:
                queue.take(number)
    for client in "ab":
        late.charge(client, extra[client])
    assert drained(late) == drained(known)


def test_clients_alternate_however_many_one_of_them_sends() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(100):
        queue.put(f"many {number}", "many", 1)
    queue.put("few 0", "few", 1)
    queue.put("few 1", "few", 1)
    order = drained(queue)
    assert order.index("few 0") == 1
    assert order.index("few 1") == 3


def test_turns_are_shared_by_cost() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(5):
        queue.put(f"dear {number}", "dear", 50)
    for number in range(20):
        queue.put(f"cheap {number}", "cheap", 1)
    order = drained(queue)
    assert order.index("cheap 19") < order.index("dear 1")


def test_who_comes_later_has_its_share_from_then_on() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(10):
        queue.put(f"first {number}", "first", 1)
    for _ in range(5):
        queue.take(next(iter(queue)))
    for number in range(10):
        queue.put(f"second {number}", "second", 1)
    assert Counter(name.split()[0] for name in drained(queue)[:10]) == {"first": 5, "second": 5}


def test_what_leaves_is_passed_over_and_what_was_given_counts() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.put("a", "client", 1000)
    queue.put("b", "client", 1)
    queue.drop("b")
    queue.drop("never")
    queue.take("a")
    assert not queue
    queue.put("c", "client", 1)
    queue.put("d", "other", 1)
    assert drained(queue) == ["d", "c"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=40))
def test_no_client_is_behind_by_more_than_one_cost(works: list[tuple[str, int]]) -> None:
    """The bound that the method is known for, while all of them wait."""
    queue: FairQueue[int] = FairQueue()
    for number, (client, cost) in enumerate(works):
        queue.put(number, client, cost)
    left = Counter(client for client, _ in works)
    served: Counter[str] = Counter()
    largest = max((cost for _, cost in works), default=0)
    for number in list(queue):
        client, cost = works[number]
        waiting = [served[other] for other in left if left[other]]
        assert served[client] - min(waiting) <= 2 * largest
        queue.take(number)
        served[client] += cost
        left[client] -= 1
