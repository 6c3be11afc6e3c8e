"""What a plane connects to when the resolver says something, nothing, or that there is nothing."""

from collections.abc import Sequence

from workload_plane.link.addresses import ADDRESSES_MAX, Addresses

NAME = "cp.example:7443"


class Answers:
    """A resolver that gives the answers of a list, one after the other; None: it fails."""

    def __init__(self, *answers: Sequence[str] | None) -> None:
        self._answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        assert (host, port) == ("cp.example", 7443)
        answer = self._answers.pop(0)
        if answer is None:
            raise OSError("temporary failure in name resolution")
        return answer


async def test_an_empty_or_failed_answer_never_replaces_a_good_one() -> None:
    addresses = Addresses(Answers(["10.0.0.1", "10.0.0.2"], [], None, ["10.0.0.3"]))
    first = "ipv4:10.0.0.1:7443,10.0.0.2:7443"
    assert [await addresses.target(NAME) for _ in range(3)] == [first, first, first]
    assert await addresses.target(NAME) == "ipv4:10.0.0.3:7443"


async def test_a_name_that_was_never_found_is_left_to_grpc() -> None:
    assert await Addresses(Answers(None)).target(NAME) == NAME


async def test_addresses_need_no_resolver() -> None:
    addresses = Addresses(Answers())
    assert await addresses.target("10.0.0.1:7443") == "10.0.0.1:7443"
    assert await addresses.target("[::1]:7443") == "[::1]:7443"


async def test_one_family_at_a_time_and_not_without_end() -> None:
    many = [f"10.0.1.{n}" for n in range(100)]
    answers = Answers(["::1", "10.0.0.1"], ["fe80::1"], many)
    addresses = Addresses(answers)
    assert await addresses.target(NAME) == "ipv4:10.0.0.1:7443"
    assert await addresses.target(NAME) == "ipv6:[fe80::1]:7443"
    assert (await addresses.target(NAME)).count(",") == ADDRESSES_MAX - 1
