"""Who a session's other end is: what is enrolled, what was forgotten, what was copied, and whose epoch is obeyed."""

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from own_controller import Held, OwnController, free_port, hello, own_controller, refusal, request
from structlog.testing import capture_logs

from controller.adapters.local.clock import SystemClock
from controller.domain.caller import Caller
from controller.domain.errors import InvalidInput, NotFound
from controller.services.agents.identity import MANY_TAKEOVERS, MOST_EPOCHS_AHEAD
from controller.services.records import TokenGrant
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[OwnController]:
    async with own_controller(tmp_path / "state", free_port(), free_port()) as running:
        yield running


async def opened(channel: Any, message: agent_pb2.AgentMessage) -> Any:
    """Return a session that was welcomed."""
    call = agent_pb2_grpc.AgentServiceStub(channel).Session()
    await call.write(message)
    assert (await call.read()).HasField("welcome")
    return call


async def test_a_certificate_whose_enrollment_is_gone_is_refused(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    async with own_controller(tmp_path / "state", *ports) as controller:
        held = await controller.enroll("h1")
        kept = await controller.enroll("h2")
    with sqlite3.connect(tmp_path / "state" / "kernroll.db") as database:
        database.execute("DELETE FROM enrolled WHERE host = 'h1'")
    database.close()
    async with own_controller(tmp_path / "state", *ports) as controller:
        async with controller.channel(held) as channel:
            code, words = await refusal(channel, hello("h1"))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "h1 is not enrolled with this key" in words
        assert "enroll it again with a new join token" in words
        # Enrollments of former lives go on working.
        async with controller.channel(kept) as channel:
            (await opened(channel, hello("h2"))).cancel()


async def test_a_forgotten_host_is_let_go_and_its_name_is_free(controller: OwnController) -> None:
    held = await controller.enroll("h1")
    with pytest.raises(grpc.aio.AioRpcError) as taken:
        await controller.enroll("h1")
    assert taken.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert "kernroll hosts forget h1" in (taken.value.details() or "")
    async with controller.channel(held) as channel:
        call = await opened(channel, hello("h1"))
        await controller.until(lambda: "h1" in controller.engine.world.hosts)
        await controller.operations.fleet.forget("h1", "reinstalled", Caller("olga"))
        assert (await call.read()).goodbye.reason == "h1 was forgotten by olga: reinstalled"
        code, words = await refusal(channel, hello("h1"))
    assert (code, "is not enrolled with this key" in words) == (grpc.StatusCode.PERMISSION_DENIED, True)
    assert controller.engine.world.hosts == {}
    assert (await controller.store.load()).hosts == {}
    assert [one.sentence for one in await controller.operations.fleet.log(5)] == ["forgot h1: reinstalled"]
    new = await controller.enroll("h1")
    async with controller.channel(held) as channel:
        assert (await refusal(channel, hello("h1")))[0] is grpc.StatusCode.PERMISSION_DENIED
    async with controller.channel(new) as channel:
        (await opened(channel, hello("h1"))).cancel()


async def test_a_host_that_never_connected_may_be_forgotten_and_an_unknown_one_not(controller: OwnController) -> None:
    await controller.enroll("h1")
    await controller.operations.fleet.forget("h1", "scrapped", Caller("olga"))
    await controller.enroll("h1")
    with pytest.raises(NotFound, match="no host h2 has enrolled"):
        await controller.operations.fleet.forget("h2", "scrapped", Caller("olga"))
    with pytest.raises(InvalidInput, match="remark"):
        await controller.operations.fleet.forget("h1", "", Caller("olga"))


async def test_a_host_comes_back_with_its_key_and_a_new_token(controller: OwnController) -> None:
    held = await controller.enroll("h1")
    again = await controller.enroll("h1", held.key)
    assert again.certificate != held.certificate
    async with controller.channel(again) as channel:
        (await opened(channel, hello("h1"))).cancel()


async def test_a_name_in_another_case_is_the_same_name(controller: OwnController) -> None:
    with capture_logs() as logs:
        held = await controller.enroll("host-a")
        with pytest.raises(grpc.aio.AioRpcError) as taken:
            await controller.enroll("HOST-A")
    told = [(one["event"], one["host"]) for one in logs if one["event"] in ("enrolled", "refused")]
    assert told == [("enrolled", "host-a"), ("refused", "HOST-A")]
    assert taken.value.code() is grpc.StatusCode.ALREADY_EXISTS
    async with controller.channel(held) as channel:
        call = await opened(channel, hello("Host-A"))
        await controller.until(lambda: "host-a" in controller.engine.world.hosts)
        call.cancel()
    assert set(controller.engine.world.hosts) == {"host-a"}


def outdated(controller: OwnController, host: str) -> None:
    """Let the host's certificate be of long ago."""
    known = controller.enrollment.identities._enrolled[host]
    controller.enrollment.identities.note(replace(known, not_after=SystemClock().now() + 86_400.0))


async def renewed(controller: OwnController, held: Held, pem: bytes) -> agent_pb2.EnrollResponse:
    async with controller.channel(held) as channel:
        body = agent_pb2.RenewRequest(certificate_signing_request_pem=pem)
        answer: agent_pb2.EnrollResponse = await agent_pb2_grpc.AgentServiceStub(channel).Renew(body)
        return answer


async def test_a_host_renews_its_certificate_while_it_lives(controller: OwnController) -> None:
    held = await controller.enroll("h1")
    outdated(controller, "h1")
    answer = await renewed(controller, held, request("h1", held.key))
    fresh = x509.load_pem_x509_certificate(answer.certificate_pem)
    assert fresh.public_key() == held.key.public_key()
    assert fresh.not_valid_after_utc.timestamp() == answer.not_after.seconds
    (known,) = await controller.store.enrolled()
    assert (known.serial, known.not_after) == (f"{fresh.serial_number:x}", answer.not_after.seconds)
    # Both work: the answer may have been lost.
    for one in (held, Held(key=held.key, certificate=answer.certificate_pem)):
        async with controller.channel(one) as channel:
            (await opened(channel, hello("h1"))).cancel()


async def test_renewals_that_are_refused(controller: OwnController) -> None:
    held, other = await controller.enroll("h1"), await controller.enroll("h2")
    cases = [
        (request("h1", held.key), grpc.StatusCode.UNAVAILABLE, "renewed less than 60 s ago"),
        (request("h1", other.key), grpc.StatusCode.INVALID_ARGUMENT, "for the key of the present certificate"),
        (request("h2", held.key), grpc.StatusCode.INVALID_ARGUMENT, "request is for h2"),
        (b"no PEM", grpc.StatusCode.INVALID_ARGUMENT, "cannot be read"),
    ]
    for pem, code, words in cases:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await renewed(controller, held, pem)
        assert refused.value.code() is code
        assert words in (refused.value.details() or "")
    await controller.operations.fleet.forget("h1", "scrapped", Caller("olga"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await renewed(controller, held, request("h1", held.key))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_an_operator_renews_the_own_certificate_and_no_other(controller: OwnController) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    digest = controller.authority.sign_operator(request("x", key), "jürgen", SystemClock().now()).key_digest
    signed = controller.enrollment.renew_operator("jürgen", digest, request("anything", key))
    assert x509.load_pem_x509_certificate(signed.certificate_pem).subject.rfc4514_string() == "CN=jürgen"
    with pytest.raises(InvalidInput, match="for the key of the present certificate"):
        controller.enrollment.renew_operator("jürgen", "stranger", request("jürgen", key))


def boot_of(controller: OwnController) -> str:
    host = controller.engine.world.hosts.get("h1")
    return "" if host is None else host.boot_id


async def test_two_machines_with_one_certificate_are_told_apart(controller: OwnController) -> None:
    held = await controller.enroll("h1")
    async with controller.channel(held) as one, controller.channel(held) as copy:
        first = await opened(one, hello("h1", "boot-a"))
        await controller.until(lambda: boot_of(controller) == "boot-a")
        second = await opened(copy, hello("h1", "boot-b"))
        assert (await first.read()).goodbye.reason == "another session of this host has begun"
        await controller.until(lambda: boot_of(controller) == "boot-b")
        # A reboot looks the same so far; what comes back now cannot be one.
        assert controller.operations.host("h1").attention == ""
        for _ in range(3):
            # It is not even welcomed.
            again = agent_pb2_grpc.AgentServiceStub(one).Session()
            await again.write(hello("h1", "boot-a"))
            goodbye = (await again.read()).goodbye
            assert (
                "two machines say that they are h1: boot boot-b is served, boot boot-a is sent away" in goodbye.reason
            )
            assert goodbye.retry_after_s == 600.0
        assert controller.sessions.is_connected("h1")
        assert controller.engine.world.hosts["h1"].boot_id == "boot-b"
        attention = controller.operations.host("h1").attention
        assert "two machines say that they are h1" in attention
        assert [one.attention for one in controller.operations.hosts("").hosts] == [attention]
        second.cancel()


async def test_two_agents_of_one_boot_are_told(controller: OwnController) -> None:
    held = await controller.enroll("h1")
    async with controller.channel(held) as one, controller.channel(held) as copy:
        before = await opened(one, hello("h1", "boot-a"))
        await controller.until(lambda: boot_of(controller) == "boot-a")
        for number in range(MANY_TAKEOVERS):
            assert controller.operations.host("h1").attention == ""
            after = await opened(copy if number % 2 == 0 else one, hello("h1", "boot-a"))
            assert (await before.read()).goodbye.reason == "another session of this host has begun"
            before = after
        attention = controller.operations.host("h1").attention
        assert "h1 has begun a session 5 times within 5 minutes while its former one was there" in attention
        before.cancel()


async def test_a_name_that_is_none_is_answered_by_one_short_sentence(controller: OwnController) -> None:
    held = await controller.enroll("h1")
    async with controller.channel(held) as channel:
        code, words = await refusal(channel, hello("h2\n\x1b[2J" * 20_000))
    assert code is grpc.StatusCode.PERMISSION_DENIED, words
    assert words.startswith("the certificate is for h1, not for h2")
    assert words.isprintable() and len(words) < 400


async def test_a_host_that_reboots_and_reconnects_is_no_copy(controller: OwnController) -> None:
    held = await controller.enroll("h1")
    async with controller.channel(held) as channel:
        for boot in ("a", "a", "b", "b", "c", "d", "d"):
            call = await opened(channel, hello("h1", boot))
            await controller.until(lambda boot=boot: boot_of(controller) == boot)
            call.cancel()
    assert controller.operations.host("h1").attention == ""


async def test_the_epoch_goes_above_what_a_host_has_obeyed(controller: OwnController) -> None:
    held = await controller.enroll("h1")
    async with controller.channel(held) as channel:
        call = agent_pb2_grpc.AgentServiceStub(channel).Session()
        await call.write(hello("h1", epoch=41))
        assert (await call.read()).welcome.epoch == 42
        call.cancel()
    # It is still this controller's store.
    await controller.store.create_token(TokenGrant(secret_digest="x", uses=1, expires_at=1.0))
    assert controller.epochs.current == 42


@pytest.mark.parametrize("epoch", [MOST_EPOCHS_AHEAD + 2, 2**31, 2**63 - 1, 2**63, 2**64 - 1])
async def test_an_epoch_that_no_restore_explains_is_refused_and_moves_nothing(
    controller: OwnController, epoch: int
) -> None:
    held = await controller.enroll("h1")
    async with controller.channel(held) as channel:
        code, words = await refusal(channel, hello("h1", epoch=epoch))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert f"h1 has obeyed a controller of epoch {epoch}, this one's is 1" in words
        # As often as it tries, it comes no further.
        for _ in range(3):
            call = agent_pb2_grpc.AgentServiceStub(channel).Session()
            await call.write(hello("h1", epoch=MOST_EPOCHS_AHEAD + 1))
            assert (await call.read()).welcome.epoch == MOST_EPOCHS_AHEAD + 2
            call.cancel()
            assert (await refusal(channel, hello("h1", epoch=2 * MOST_EPOCHS_AHEAD)))[0] is (
                grpc.StatusCode.FAILED_PRECONDITION
            )
