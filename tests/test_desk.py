"""The desk: who is asked what, and that no answer is lost or counts twice."""

import threading
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
import sqlalchemy as sa

from prefgym import database as db
from prefgym.comparisons import Answer, Query
from prefgym.labelling.candidates import REPEAT_AFTER, Kind
from prefgym.labelling.desk import Choice, Desk, StaleTicketError
from prefgym.segments import Segment
from prefgym.store import Store


def query(number):
    first, second = (Segment(*np.full((3, 4, 2), 2 * number + side), np.zeros(4), env_id="env") for side in (0, 1))
    return Query(first, second)


@pytest.fixture
def store(target):
    with Store(target) as store:
        yield store


def desk(store, clock, **options):
    return Desk(store, **{"second": 0.0, "repeat": 0.0, "seed": 0, "time": clock} | options)


@contextmanager
def statements():
    """Collects what is sent to any database meanwhile, with SQLite's BEGIN or the row that is locked in its place."""
    sent = []

    def hear(_connection, _cursor, statement, *_):
        sent.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", hear)
    try:
        yield sent
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", hear)


def test_two_people_are_not_asked_the_same(store, clock):
    store.ask(query(n) for n in range(4))
    shared = desk(store, clock)
    ann, bob = shared.tickets("ann", 2), shared.tickets("bob", 3)
    assert [t.query_id for t in ann] == [t.query_id for t in shared.tickets("ann", 2)] == [1, 2]
    assert [t.query_id for t in bob] == [3, 4]
    assert shared.tickets("eve") == []


def test_who_asks_again_gets_the_same_and_keeps_it(store, clock):
    store.ask([query(0)])
    shared = desk(store, clock, lease=60)
    first = shared.tickets("ann")[0]
    for _ in range(5):
        clock.now += 50
        again = shared.tickets("ann")[0]
        assert (again.token, again.flipped) == (first.token, first.flipped)
    assert shared.tickets("bob") == []
    clock.now += 61
    assert shared.tickets("bob")[0].query_id == first.query_id
    assert shared.tickets("ann") == []


def test_whoever_asks_keeps_it_for_at_least_half_a_lease(store, clock):
    store.ask([query(0)])
    shared = desk(store, clock, lease=60)
    shared.tickets("ann")
    for asked in range(1, 10):
        clock.now += 29
        assert shared.tickets("bob") == []
        assert len(shared.tickets("ann")) == 1, asked
    clock.now += 29
    assert shared.tickets("bob") == []


@pytest.mark.parametrize("rankings", [False, True])
def test_few_statements_are_sent(store, clock, rankings):
    store.ask(query(n) for n in range(20))
    shared = desk(store, clock)
    with statements() as cold:
        shown = shared.tickets("ann", 3, rankings=rankings)
    with statements() as answering:
        shared.answer(shown[0].token, "left", annotator="ann")
    with statements() as next_:
        again = shared.tickets("ann", 3, rankings=rankings)
    with statements() as looking:
        shared.tickets("ann", 3, rankings=rankings)
    with statements() as twice:
        shared.answer(shown[0].token, "left", annotator="ann")
    with statements() as undoing:
        undone = shared.undo("ann", rankings=rankings)
    counts = [len(sent) for sent in (cold, answering, next_, looking, twice, undoing)]
    assert counts == [5, 4, 5, 2, 3, 8], (again, undone)  # held, as by a front end, they are not read again


def test_a_second_answer_does_not_set_a_state_that_is_set(store, clock):
    store.ask([query(0)])
    shared = desk(store, clock, second=1.0)
    shared.answer(shared.tickets("ann")[0].token, "left", annotator="ann")
    token = shared.tickets("bob")[0].token
    with statements() as sent:
        shared.answer(token, "left", annotator="bob")
    assert [statement.split()[0] for statement in sent][1:] == ["DELETE", "INSERT"]


def test_kinds_keep_their_places_in_one_deal(store, clock):
    store.ask(query(n) for n in range(6))
    shared = desk(store, clock, second=1.0)
    for _ in range(2):
        shared.answer(shared.tickets("ann")[0].token, "left", annotator="ann")
    dealt = shared.tickets("bob", 4)
    assert [(ticket.query_id, ticket.kind) for ticket in dealt] == [
        (2, "second"),
        (1, "second"),
        (3, "new"),
        (4, "new"),
    ]
    assert [ticket.token for ticket in shared.tickets("bob", 4)] == [ticket.token for ticket in dealt]


def test_an_answer_that_a_copy_of_the_store_took_counts_once(store, clock, tmp_path):
    store.ask([query(0)])
    shared = desk(store, clock)
    token = shared.tickets("ann")[0].token
    with Store(tmp_path / "copy.db") as copy:
        copy.merge(store.records())
        copy.answer(1, "first", annotator="ann")
        with copy.database.writing() as connection:
            connection.execute(sa.update(db.comparisons).values(uid=token))
        store.merge(copy.records())
    (entry,) = store.ledger()
    said = Choice.of(Answer.FIRST, entry.flipped)
    assert shared.answer(token, said, annotator="ann") == entry.id
    assert store.counts()["history"] == 1
    assert shared.tickets("ann") == []


@pytest.mark.parametrize("flipped", [False, True])
def test_the_answer_is_of_the_query_whatever_side_it_was_shown_on(store, clock, flipped):
    store.ask(query(n) for n in range(20))
    ticket = next(t for t in desk(store, clock).tickets("ann", 20) if t.flipped == flipped)
    assert ticket.left is (ticket.query.second if flipped else ticket.query.first)
    desk(store, clock).answer(ticket.token, "left", annotator="ann", seconds=2.5)
    said = store.answer_of(ticket.query_id)
    assert (said.answer, said.flipped, said.seconds) == (Answer.SECOND if flipped else Answer.FIRST, flipped, 2.5)
    assert Choice.of(said.answer, said.flipped) == Choice.LEFT


def test_sides_are_drawn_by_lot(store, clock):
    store.ask(query(n) for n in range(200))
    flipped = sum(ticket.flipped for ticket in desk(store, clock).tickets("ann", 200))
    assert 75 <= flipped <= 125  # 3.5 deviations


def test_an_answer_sent_twice_counts_once(store, clock):
    store.ask([query(0), query(1)])
    shared = desk(store, clock)
    token = shared.tickets("ann")[0].token
    ids = {shared.answer(token, "tie", annotator="ann") for _ in range(3)}
    assert len(ids) == 1
    assert store.counts()["history"] == 1


def test_a_late_answer_is_taken_unless_somebody_else_has_stepped_in(store, clock):
    store.ask([query(0), query(1)])
    shared = desk(store, clock, lease=10)
    late, lost = shared.tickets("ann", 2)
    clock.now += 100
    shared.answer(late.token, "left", annotator="ann")
    stolen = shared.tickets("bob")[0]
    assert stolen.query_id == lost.query_id
    shared.answer(stolen.token, "left", annotator="bob")
    with pytest.raises(StaleTicketError, match=r"somebody else has answered this query meanwhile. Nothing was lost"):
        shared.answer(lost.token, "right", annotator="ann")
    assert [entry.annotator for entry in store.ledger()] == ["ann", "bob"]


def test_nobody_answers_with_another_ones_ticket(store, clock):
    store.ask([query(0)])
    shared = desk(store, clock)
    token = shared.tickets("ann")[0].token
    with pytest.raises(StaleTicketError, match="no longer yours"):
        shared.answer(token, "left", annotator="bob")
    with pytest.raises(StaleTicketError, match="no longer yours"):
        shared.answer("0" * 32, "left", annotator="bob")
    assert store.ledger() == []


def test_undo_goes_back_as_far_as_one_likes(store, clock):
    store.ask(query(n) for n in range(4))
    shared = desk(store, clock)
    shown = []
    for choice in ("left", "right", "tie"):
        ticket = shared.tickets("ann", 2)[0]
        shown.append(ticket)
        shared.answer(ticket.token, choice, annotator="ann")
    waiting = shared.tickets("ann", 2)[0]
    for earlier in reversed(shown):
        ticket = shared.undo("ann")
        assert (ticket.query_id, ticket.flipped) == (earlier.query_id, earlier.flipped)
        assert shared.tickets("ann", 9)[0].token == ticket.token
    assert shared.undo("ann") is None
    assert store.comparisons() == []
    assert store.counts()["open"] == 4
    order = []
    while tickets := shared.tickets("ann"):
        order.append(tickets[0].query_id)
        shared.answer(tickets[0].token, "left", annotator="ann")
    assert order == [*(t.query_id for t in shown), waiting.query_id]
    assert store.counts()["comparisons"] == 4


def test_a_taken_back_answer_stays_in_the_history_and_in_no_fit(store, clock):
    store.ask([query(0)])
    shared = desk(store, clock)
    shared.answer(shared.tickets("ann")[0].token, "left", annotator="ann")
    shared.undo("ann")
    assert [entry.answer for entry in store.ledger()][1:] == ["undone"]
    assert (store.current_ids(), store.answer_of(1), store.counts()["comparisons"]) == ([], None, 0)


def test_a_share_is_answered_by_two(store, clock):
    store.ask(query(n) for n in range(300))
    shared = desk(store, clock, second=0.2)
    for turn in range(200):
        name = ("ann", "bob")[turn % 2]
        shared.answer(shared.tickets(name)[0].token, "left", annotator=name)
    people = Counter(entry.query_id for entry in store.ledger())
    assert 20 <= sum(count == 2 for count in people.values()) <= 60  # 0.2 of 200, 3.5 deviations
    assert max(people.values()) == 2


def test_some_are_asked_again_of_the_same_person_but_not_at_once(store, clock):
    store.ask(query(n) for n in range(150))
    shared = desk(store, clock, repeat=0.3)
    kinds = []
    for _ in range(100):
        ticket = shared.tickets("ann")[0]
        kinds.append(ticket.kind)
        shared.answer(ticket.token, "left", annotator="ann")
    assert Kind.REPEAT not in kinds[:REPEAT_AFTER]
    assert 10 <= kinds.count(Kind.REPEAT) <= 45
    asked = [entry.query_id for entry in store.ledger()]
    assert max(Counter(asked).values()) == 2
    gaps = [asked[n + 1 :].index(id_) + 1 for n, id_ in enumerate(asked) if id_ in asked[n + 1 :]]
    assert min(gaps) >= REPEAT_AFTER


def test_released_queries_go_to_others_at_once(store, clock):
    store.ask([query(0)])
    shared = desk(store, clock)
    shared.tickets("ann")
    shared.release("ann")
    assert len(shared.tickets("bob")) == 1


def test_who_leaves_and_is_back_at_once_keeps_what_was_shown(store, clock):
    store.ask(query(n) for n in range(3))
    shared = desk(store, clock, lease=60)
    shown = [ticket.token for ticket in shared.tickets("ann", 3)]
    shared.release("ann", after=5)
    assert shared.tickets("bob") == []
    clock.now += 3
    assert [ticket.token for ticket in shared.tickets("ann", 3)] == shown
    clock.now += 50
    assert shared.tickets("bob") == []  # as it was renewed


def test_who_leaves_for_good_keeps_nobody_waiting(store, clock):
    store.ask([query(0)])
    shared = desk(store, clock, lease=60)
    left = shared.tickets("ann")[0]
    shared.release("ann", after=5)
    shared.release("ann", after=500)  # ends no later for that
    clock.now += 6
    taken = shared.tickets("bob")[0]
    assert taken.query_id == left.query_id
    assert shared.tickets("ann") == []
    with pytest.raises(ValueError, match="`after` must be at least 0 seconds, got nan"):
        shared.release("ann", after=float("nan"))


def test_an_answer_that_was_on_its_way_when_somebody_left_is_taken(store, clock):
    store.ask([query(0)])
    shared = desk(store, clock, lease=60)
    left = shared.tickets("ann")[0]
    shared.release("ann", after=5)
    clock.now += 1000
    shared.answer(left.token, "left", annotator="ann")
    assert store.counts()["comparisons"] == 1


def test_two_pages_of_one_person_answer_each_query_once(store, clock):
    store.ask(query(n) for n in range(3))
    one, other = desk(store, clock), desk(store, clock, seed=5)
    shown, also = one.tickets("ann", 3), other.tickets("ann", 3)
    assert [ticket.token for ticket in shown] == [ticket.token for ticket in also]
    id_ = one.answer(shown[0].token, "left", annotator="ann")
    assert other.answer(shown[0].token, "left", annotator="ann") == id_
    with pytest.raises(StaleTicketError, match="you have given another answer to this query already"):
        other.answer(shown[0].token, "right", annotator="ann")
    with pytest.raises(StaleTicketError, match="no longer yours"):
        other.answer(shown[0].token, "left", annotator="bob")
    again = other.undo("ann")
    assert [ticket.token for ticket in one.tickets("ann", 3)] == [again.token, shown[1].token, shown[2].token]
    assert one.answer(shown[0].token, "left", annotator="ann") == id_  # sent late once more: stays taken back
    assert store.counts()["comparisons"] == 0


def test_a_withdrawn_query_is_not_handed_out_but_its_answer_is_taken(store, clock):
    ids = store.ask([query(0), query(1)])
    shared = desk(store, clock)
    ticket = shared.tickets("ann")[0]
    store.withdraw(ids)
    assert shared.tickets("bob") == []
    shared.answer(ticket.token, "left", annotator="ann")
    assert store.counts()["answered"] == 1


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "x" * 81])
def test_names_must_be_printable(store, clock, name):
    with pytest.raises(ValueError, match="`annotator` must be a name"):
        desk(store, clock).tickets(name)


def test_what_is_wrong_with_an_answer_is_said(store, clock):
    store.ask([query(0)])
    shared = desk(store, clock)
    token = shared.tickets("ann")[0].token
    with pytest.raises(ValueError, match="undone"):
        shared.answer(token, "undone", annotator="ann")
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="`seconds` must be from 0"):
            shared.answer(token, "left", annotator="ann", seconds=seconds)
    with pytest.raises(ValueError, match="`second` must be a share"):
        Desk(store, second=2)
    with pytest.raises(ValueError, match="`lease` must be more than 0"):
        Desk(store, lease=0)


def test_many_people_at_once_lose_nothing(store, target):
    store.ask(query(n) for n in range(120))
    given = []

    def label(name):
        with Store(target) as own:
            desk = Desk(own, second=0.0, repeat=0.0)
            while tickets := desk.tickets(name, 2):
                given.append((tickets[0].query_id, desk.answer(tickets[0].token, "left", annotator=name)))

    threads = [threading.Thread(target=label, args=(f"person {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(id_ for _, id_ in given) == store.current_ids()
    assert sorted(query_id for query_id, _ in given) == list(range(1, 121))
