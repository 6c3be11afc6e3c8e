"""The two schedulers people have today, on arrays: first-fit decreasing, and best fit by node.

`bench_scheduler` sets them beside ours. Both go by priority, the largest replicas first, place
each replica on a node and keep the same rules: accelerators and host memory of nodes, whole nodes,
spot shares, and the promise to survive the loss of a plane. They differ in where they look first:

- `greedy`: the cheapest pool per unit of throughput, its first node with room.
- `best_fit`: the node that is fullest after placing, price-blind, as Kubernetes' MostAllocated and
  Nomad's binpack score it (accelerators and host memory weigh the same). A node that took a replica
  is fuller than before and stays the best until it has no room, so that filling it at once is the
  same as scoring replica by replica.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scheduler.compiled import Floats, Ints, compiled
from scheduler.instance import Instance

DUST = 1e-9
# Rounds in which replicas beyond the demand are added for the survival of one deployment.
SURVIVAL_ROUNDS = 200


class Offers(NamedTuple):
    """Columns, those of deployment d from `first[d]` on; `domain` counts its planes from 0."""

    first: Ints
    pool: Ints
    domain: Ints
    accelerators: Floats
    memory: Floats
    throughput: Floats
    price: Floats
    spot: Ints


class Supply(NamedTuple):
    """Nodes, those of pool j from `start[j]` on; the first `touched[j]` of them held a replica."""

    start: Ints
    nodes: Ints
    per_node: Ints
    node_memory: Floats
    free: Floats
    free_memory: Floats
    touched: Ints


class Work(NamedTuple):
    """What one deployment's turn writes: candidate nodes, what was placed where, and the sums.

    `node` -1 is "the next untouched nodes"; `placed` is (column, node, count) of all deployments,
    `length` its length and where the present turn began; `load` is by domain, `sums` are (served,
    of which spot).
    """

    key: Floats
    column: Ints
    node: Ints
    placed: Ints
    length: Ints
    load: Floats
    sums: Floats
    counts: Ints


class Goal(NamedTuple):
    """Serve `target`, no domain beyond `cap`, spot up to its share of `base` or of what is served.

    `least` 1 lets a domain take its first replica even where that alone is beyond the cap.
    """

    target: float
    cap: float
    least: int
    spot_max: float
    base: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Counts per column, and (column, node, count) for all replicas.

    Nodes count through all pools; a replica of several nodes takes those from its node on.
    """

    counts: Ints
    nodes: Ints


def greedy(instance: Instance) -> Placed:
    """Return the plan of first-fit decreasing: the cheapest eligible pool with room first."""
    return _place(instance, price_blind=0)


def best_fit(instance: Instance) -> Placed:
    """Return the plan of best fit: the node that is fullest after placing, whatever it costs."""
    return _place(instance, price_blind=1)


def _place(instance: Instance, *, price_blind: int) -> Placed:
    columns, pools, wants = instance.columns, instance.pools, instance.deployments
    offers = Offers(
        first=instance.first,
        pool=columns.pool,
        domain=instance.domain,
        accelerators=columns.accelerators,
        memory=columns.load_memory,
        throughput=columns.throughput,
        price=columns.price,
        spot=columns.spot,
    )
    nodes_all = int(pools.nodes.sum())
    supply = Supply(
        start=np.concatenate([[0], np.cumsum(pools.nodes)]).astype(np.int64),
        nodes=pools.nodes,
        per_node=pools.per_node,
        node_memory=pools.node_memory,
        free=np.repeat(pools.per_node, pools.nodes).astype(np.float64),
        free_memory=np.repeat(pools.node_memory, pools.nodes),
        touched=np.zeros(len(pools.nodes), np.int64),
    )
    slots = nodes_all + int(np.diff(instance.first).max(initial=0)) + 1
    work = Work(
        key=np.zeros(slots),
        column=np.zeros(slots, np.int64),
        node=np.zeros(slots, np.int64),
        placed=np.zeros((int(pools.capacity.sum()) + 1, 3), np.int64),
        length=np.zeros(2, np.int64),
        load=np.zeros(instance.domains_max),
        sums=np.zeros(2),
        counts=np.zeros(instance.size[2], np.int64),
    )
    place_all(_order(instance), (wants.demand, wants.keep, wants.spot_max), offers, supply, work,
              price_blind)  # fmt: skip
    nodes = work.placed[: work.length[0]]
    return Placed(counts=work.counts, nodes=nodes[nodes[:, 2] > 0])


def _order(instance: Instance) -> Ints:
    """Return the deployments by priority, the largest replicas and then the largest demands first.

    Sizes are in accelerators.
    """
    columns, wants = instance.columns, instance.deployments
    count = instance.size[1]
    replica, each = np.zeros(count), np.full(count, np.inf)
    np.maximum.at(replica, columns.deployment, columns.accelerators)
    np.minimum.at(each, columns.deployment, columns.accelerators / columns.throughput)
    size = wants.demand * np.where(np.isfinite(each), each, 0.0)
    return np.lexsort((-size, -replica, wants.priority)).astype(np.int64)


@compiled
def place_all(
    order: Ints,
    wants: tuple[Floats, Floats, Floats],
    offers: Offers,
    supply: Supply,
    work: Work,
    price_blind: int,
) -> None:
    """Serve all deployments in the order, then keep their promises as far as there is room."""
    demand, keep, spot_max = wants
    for d in order:
        work.length[1] = work.length[0]
        clear(work)
        if keep[d] > 0.0:
            apart = Goal(demand[d], (1.0 - keep[d]) * demand[d], 1, spot_max[d], demand[d])
            fill(d, apart, offers, supply, work, price_blind)
        anywhere = Goal(demand[d], np.inf, 1, spot_max[d], demand[d])
        fill(d, anywhere, offers, supply, work, price_blind)
        give_back_spot(spot_max[d], offers, supply, work)
    for d in order:
        if keep[d] > 0.0:
            survive(d, keep[d] * demand[d], spot_max[d], (offers, supply), work, price_blind)


@compiled
def clear(work: Work) -> None:
    """Forget the sums of the turn before."""
    # Loops: an assignment to a slice takes seconds to compile.
    for f in range(len(work.load)):
        work.load[f] = 0.0
    work.sums[0] = 0.0
    work.sums[1] = 0.0


@compiled
def list_slots(d: int, offers: Offers, supply: Supply, work: Work, price_blind: int) -> Ints:
    """List the nodes that could take a replica of a deployment now; return their order."""
    n = 0
    for c in range(offers.first[d], offers.first[d + 1]):
        j = offers.pool[c]
        per_node, node_memory = float(supply.per_node[j]), supply.node_memory[j]
        size, memory = offers.accelerators[c], offers.memory[c]
        each = max(1, int(size) // supply.per_node[j])
        size, memory = min(size, per_node), memory / each
        price = offers.price[c] / offers.throughput[c]
        begin = supply.start[j]
        for k in range(begin, begin + (supply.touched[j] if each == 1 else 0)):
            if supply.free[k] >= size and supply.free_memory[k] >= memory:
                after = (per_node - supply.free[k] + size) / per_node
                after += (node_memory - supply.free_memory[k] + memory) / node_memory
                work.key[n] = -after if price_blind == 1 else price
                work.column[n] = c
                work.node[n] = k
                n += 1
        if supply.nodes[j] - supply.touched[j] >= each and memory <= node_memory:
            after = size / per_node + memory / node_memory
            work.key[n] = -after if price_blind == 1 else price
            work.column[n] = c
            work.node[n] = -1
            n += 1
    return np.argsort(work.key[:n], kind="mergesort")


@compiled
def fill(d: int, goal: Goal, offers: Offers, supply: Supply, work: Work, price_blind: int) -> float:
    """Place replicas of a deployment towards a goal; return the throughput placed."""
    before = work.sums[0]
    if before >= goal.target - DUST:
        return 0.0
    order = list_slots(d, offers, supply, work, price_blind)
    for at in order:
        missing = goal.target - work.sums[0]
        if missing <= DUST:
            break
        c = work.column[at]
        each, f = offers.throughput[c], offers.domain[c]
        most = int(np.ceil(missing / each - DUST))
        if goal.cap < np.inf:
            room = int(np.floor((goal.cap - work.load[f]) / each + DUST))
            if room < 1 and goal.least == 1 and work.load[f] == 0.0:
                room = 1
            most = min(most, room)
        if offers.spot[c] == 1:
            spare = goal.spot_max * max(goal.base, work.sums[0]) - work.sums[1]
            most = min(most, int(np.floor(spare / each + DUST)))
        if most > 0:
            count = take(c, work.node[at], most, offers, supply, work)
            work.load[f] += count * each
            work.sums[0] += count * each
            work.sums[1] += count * each * offers.spot[c]
    return float(work.sums[0] - before)


@compiled
def take(c: int, node: int, most: int, offers: Offers, supply: Supply, work: Work) -> int:
    """Place up to `most` replicas on a node, or on untouched nodes of the pool; return how many."""
    j = offers.pool[c]
    size, memory = offers.accelerators[c], offers.memory[c]
    begin, each = supply.start[j], int(size) // int(supply.per_node[j])
    if size > supply.per_node[j]:
        count = min(most, int((supply.nodes[j] - supply.touched[j]) // each))
        k = begin + supply.touched[j]
        for n in range(k, k + count * each):
            supply.free[n] = 0.0
            supply.free_memory[n] -= memory / each
        supply.touched[j] += count * each
        note(c, k, count, work)
        return count
    total = 0
    while total < most:
        k = node
        if node < 0:
            if supply.touched[j] >= supply.nodes[j]:
                break
            k = begin + supply.touched[j]
            supply.touched[j] += 1
        fits = supply.free[k] / size
        if memory > 0.0:
            fits = min(fits, supply.free_memory[k] / memory)
        count = min(most - total, int(fits + DUST))
        supply.free[k] -= count * size
        supply.free_memory[k] -= count * memory
        note(c, k, count, work)
        total += count
        if node >= 0 or count == 0:
            break
    return total


@compiled
def note(c: int, k: int, count: int, work: Work) -> None:
    """Write down what was placed where."""
    if count == 0:
        return
    work.placed[work.length[0], 0] = c
    work.placed[work.length[0], 1] = k
    work.placed[work.length[0], 2] = count
    work.length[0] += 1
    work.counts[c] += count


@compiled
def give_back_spot(spot_max: float, offers: Offers, supply: Supply, work: Work) -> None:
    """Take spot replicas back, the last ones first, where less was served than their share says."""
    for back in range(work.length[0] - 1, work.length[1] - 1, -1):
        c, k, count = work.placed[back, 0], work.placed[back, 1], work.placed[back, 2]
        over = work.sums[1] - spot_max * work.sums[0]
        if over <= DUST * work.sums[0] or offers.spot[c] == 0:
            continue
        each, size = offers.throughput[c], offers.accelerators[c]
        # One replica less takes `each` from spot and from the whole.
        wanted = over / (each * (1.0 - spot_max)) if spot_max < 1.0 else 0.0
        gone = min(count, int(np.ceil(wanted - DUST)))
        per_node = supply.per_node[offers.pool[c]]
        if size > per_node:
            nodes = int(size) // per_node
            end = k + count * nodes
            for n in range(end - gone * nodes, end):
                supply.free[n] = float(per_node)
                supply.free_memory[n] += offers.memory[c] / nodes
        else:
            supply.free[k] += gone * size
            supply.free_memory[k] += gone * offers.memory[c]
        work.placed[back, 2] -= gone
        work.counts[c] -= gone
        work.load[offers.domain[c]] -= gone * each
        work.sums[0] -= gone * each
        work.sums[1] -= gone * each


@compiled
def survive(
    d: int,
    kept: float,
    spot_max: float,
    fleet: tuple[Offers, Supply],
    work: Work,
    price_blind: int,
) -> None:
    """Add replicas until the loss of any one plane leaves `kept`, or nothing helps any more."""
    offers, supply = fleet
    clear(work)
    largest = 0.0
    for c in range(offers.first[d], offers.first[d + 1]):
        served = work.counts[c] * offers.throughput[c]
        work.load[offers.domain[c]] += served
        work.sums[0] += served
        work.sums[1] += served * offers.spot[c]
        largest = max(largest, offers.throughput[c])
    cap = work.load.max()
    for _ in range(SURVIVAL_ROUNDS):
        worst = work.load.max()
        missing = kept - (work.sums[0] - worst)
        if missing <= DUST * kept:
            return
        # What the fullest plane holds others may hold too; once they all do, all grow a little.
        cap = max(cap, worst)
        goal = Goal(kept + worst, cap, 0, spot_max, 0.0)
        if fill(d, goal, offers, supply, work, price_blind) <= 0.0:
            if cap > worst + kept:
                return
            cap += max(largest, 0.05 * missing)
