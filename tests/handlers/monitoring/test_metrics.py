"""GET /metrics: for keys that may read it, without names or secrets, readable by Prometheus's own parser."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from platform import python_version

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from running import RunningBridge, api_key, running_bridge

import bridge as package
from bridge.access.keys import KeyRing
from bridge.statistics.counts import NAMES, Outcome, ToolUse
from bridge.statistics.since_start import SinceStart
from bridge.statistics.stats import Stats
from handlers.monitoring.exposition import CountsCollector, OwnProcessCollector
from handlers.monitoring.metrics import METRICS
from handlers.request.appkeys import DRIFT, RENEWALS, STATS
from upstream.arena import Arena, Session
from upstream.gate import FAILURES_TO_OPEN
from upstream.protocol.errors import Reason

MONITORING = Path(package.__file__).parents[1] / "docs" / "monitoring"
#: What no label may contain.
KEY_NAME, EMAIL = "canary-key", "canary@example.org"

#: Values by metric name, then by the values of the labels in the order of their names.
Samples = dict[str, dict[tuple[str, ...], float]]


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge whose key may read metrics, and which has a list of models."""
    async with measured(arena, tmp_path, arena.sign_in(EMAIL)) as bridge:
        yield bridge


@asynccontextmanager
async def measured(arena: Arena, tmp_path: Path, *sessions: Session) -> AsyncIterator[RunningBridge]:
    """A bridge with these accounts, whose key may read metrics; the models have been read and the logins checked."""
    async with running_bridge(arena, tmp_path / "state", sessions=sessions, key_options={"metrics": True}) as bridge:
        await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)
        for account in bridge.state.pool:
            await bridge.app[RENEWALS].fresh(account)
        yield bridge


def parsed(text: str) -> Samples:
    return {
        name: {tuple(sample.labels.values()): sample.value for sample in family.samples if sample.name == name}
        for family in text_string_to_metric_families(text)
        for name in {sample.name for sample in family.samples}
    }


async def scraped(bridge: RunningBridge) -> Samples:
    async with bridge.http.get(f"{bridge.origin}/metrics", headers=bridge.headers) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return {name.removeprefix("lmarena_bridge_"): samples for name, samples in parsed(await answer.text()).items()}


# --- access ---


async def test_metrics_are_403_for_a_key_without_the_right_and_401_without_a_key(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state") as bridge:
        for headers, status, kind, code in (
            ({}, 401, "invalid_request_error", "invalid_api_key"),
            ({"Authorization": f"Bearer {api_key()[0]}"}, 401, "invalid_request_error", "invalid_api_key"),
            (bridge.headers, 403, "permission_error", "metrics_not_allowed"),
        ):
            for method in ("GET", "HEAD"):
                async with bridge.http.request(method, f"{bridge.origin}/metrics", headers=headers) as answer:
                    assert answer.status == status
                    if method == "GET":
                        error = (await answer.json())["error"]
                        assert (error["type"], error["code"]) == (kind, code)


async def test_a_key_with_the_right_can_read_the_metrics(bridge: RunningBridge) -> None:
    async with bridge.http.head(f"{bridge.origin}/metrics", headers=bridge.headers) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    assert (await scraped(bridge))["build_info"] == {(python_version(), package.__version__): 1}


async def test_open_metrics_need_no_key(arena: Arena, tmp_path: Path) -> None:
    async with (
        running_bridge(arena, tmp_path / "state", {"server": {"open_metrics": True}}) as bridge,
        bridge.http.get(f"{bridge.origin}/metrics") as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_the_metrics_are_at_the_root_only(prefix: str, bridge: RunningBridge) -> None:
    async with bridge.http.get(f"{bridge.origin}{prefix}/metrics", headers=bridge.headers) as answer:
        assert answer.status == 404


# --- what was counted ---


def record(stats: Stats) -> None:
    """Record three requests, of which one failed and one was abandoned, and two uploads."""
    stats.record(
        Outcome(200, Reason.OK, 2.0, "m", KEY_NAME, 0.2, chunks=7, prompt_tokens=5, completion_tokens=9, api="chat")
    )
    stats.record(Outcome(502, Reason.UPSTREAM_ERROR, 40.0, model='"m"\\\n{}', key=KEY_NAME, api="responses"))
    stats.record(Outcome(499, Reason.CLIENT_GONE, 5000.0, model="m", key=KEY_NAME, ttft=300.0, api="chat"))
    stats.record_attempt(EMAIL, Reason.OK)
    stats.record_upload(ok=True)
    stats.record_upload(ok=False)


async def test_each_counter_counts_the_recorded_requests(bridge: RunningBridge) -> None:
    record(bridge.app[STATS].stats)
    found = await scraped(bridge)
    assert found["requests_total"] == {("200",): 1, ("502",): 1, ("499",): 1}
    assert {labels for labels, count in found["reasons_total"].items() if count} == {
        ("ok",),
        ("upstream_error",),
        ("client_gone",),
    }
    assert found["errors_total"] == {(): 1}
    assert found["chunks_total"] == {(): 7}
    assert found["tokens_total"] == {("prompt",): 5, ("completion",): 9}
    assert found["uploads_total"] == {("ok",): 1, ("failed",): 1}
    assert found["api_requests_total"] == {("chat",): 2, ("responses",): 1}
    assert found["api_errors_total"] == {("chat",): 0, ("responses",): 1}
    assert found["model_requests_total"] == {("m",): 2, ('"m"\\?{}',): 1}
    assert found["model_errors_total"] == {("m",): 0, ('"m"\\?{}',): 1}


async def test_tool_calls_are_counted_by_model_and_outcome(bridge: RunningBridge) -> None:
    stats = bridge.app[STATS].stats
    stats.record(Outcome(200, Reason.OK, 2.0, model="m", tools=ToolUse(3, 1, 1, 1, 70)))
    stats.record(Outcome(200, Reason.OK, 2.0, model="other"))
    found = await scraped(bridge)
    assert found["model_tools_offered_total"] == {("m",): 3}
    assert found["model_tools_total"] == {("m", "called"): 1, ("m", "repaired"): 1, ("m", "unparsed"): 1}
    assert found["model_tools_dropped_chars_total"] == {("m",): 70}


async def test_the_histograms_have_the_recorded_durations(bridge: RunningBridge) -> None:
    record(bridge.app[STATS].stats)
    found = await scraped(bridge)
    ttft, duration = found["ttft_seconds_bucket"], found["duration_seconds_bucket"]
    assert (ttft["0.1",], ttft["0.25",], ttft["120.0",], ttft["+Inf",]) == (0, 1, 1, 2)
    assert (duration["1.0",], duration["2.5",], duration["60.0",], duration["+Inf",]) == (0, 1, 2, 3)
    assert (found["ttft_seconds_count"], found["ttft_seconds_sum"]) == ({(): 2}, {(): 300.2})
    assert (found["duration_seconds_count"], found["duration_seconds_sum"]) == ({(): 3}, {(): 5042.0})


def test_counters_begin_at_zero_with_each_process() -> None:
    stats = Stats(time.time)
    record(stats)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(CountsCollector(SinceStart(stats)))
    before = parsed(generate_latest(registry).decode())
    assert {value for samples in before.values() for value in samples.values()} == {0}
    record(stats)
    after = parsed(generate_latest(registry).decode())
    assert after["lmarena_bridge_model_requests_total"][("m",)] == 2
    assert after["lmarena_bridge_duration_seconds_bucket"][("+Inf",)] == 3
    assert after["lmarena_bridge_duration_seconds_sum"][()] == 5042.0


# --- the current state ---


async def test_the_gauges_show_no_trouble_when_all_is_well(arena: Arena, bridge: RunningBridge) -> None:
    found = await scraped(bridge)
    assert found["serving"] == {(): 1}
    assert not any(found["troubles"].values())
    assert found["accounts"].pop(("usable",)) == 1
    assert found["accounts"] == {(word,): 0 for word in ("resting", "expired", "guest", "terms", "paused")}
    assert "session_expiry_timestamp_seconds" not in found  # its login is renewed automatically
    assert (found["renewals_failing"], found["clock_skew_seconds"]) == ({(): 0}, {(): 0})
    assert "unknown_total" not in found
    assert found["circuit_open"] == {(): 0}
    assert found["wall"] == {("challenge",): 0, ("blocked",): 0, ("recaptcha",): 0}
    assert found["models"] == {(): sum(model.user_selectable for model in arena.models)}
    assert (found["keys"], found["answers_running"], found["requests_waiting"]) == ({(): 1}, {(): 0}, {(): 0})
    assert 0 <= found["event_loop_lag_seconds"][()] < 10


async def test_the_requests_left_of_an_account_are_exposed(bridge: RunningBridge) -> None:
    assert (await bridge.post(bridge.chat("hi"))).status == 200
    assert (await scraped(bridge))["requests_left"] == {("1", "chat"): 2999}


@pytest.mark.parametrize(
    ("fault", "requests", "name", "labels"),
    [
        pytest.param("rate_limited", 1, "accounts", ("resting",), id="an account that rests"),
        pytest.param("prompt_failed", 1, "accounts", ("resting",), id="an account that is doubted"),
        pytest.param("prompt_failed", 1, "troubles", ("recaptcha",), id="what health says of it"),
        pytest.param("login_gate", 1, "accounts", ("guest",), id="a guest's session"),
        pytest.param("terms", 1, "accounts", ("terms",), id="terms that are not accepted"),
        pytest.param("challenge", 1, "wall", ("challenge",), id="a challenge"),
        pytest.param("blocked", 1, "wall", ("blocked",), id="blocked"),
        pytest.param("recaptcha", 1, "wall", ("recaptcha",), id="a captcha demanded"),
        pytest.param("challenge", 1, "troubles", ("challenge",), id="what health says"),
        pytest.param("server_error", FAILURES_TO_OPEN, "circuit_open", (), id="an outage"),
    ],
)
async def test_each_fault_upstream_sets_its_gauge(
    fault: str, requests: int, name: str, labels: tuple[str, ...], arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm(fault, None)
    for _ in range(requests):
        await (await bridge.post(bridge.chat("hi"))).read()
    found = await scraped(bridge)
    assert found[name][labels] == 1


async def test_each_account_is_counted_in_exactly_one_state(arena: Arena, tmp_path: Path) -> None:
    usable, guest, terms = (arena.sign_in(f"{name}@example.org") for name in ("ada", "bob", "carol"))
    dead, guest.guest, terms.consented = arena.sign_in("dan@example.org"), True, False
    arena.expire(dead)
    async with measured(arena, tmp_path, usable, guest, terms, dead) as bridge:
        each = {("usable",): 1, ("resting",): 0, ("expired",): 1, ("guest",): 1, ("terms",): 1, ("paused",): 0}
        assert (await scraped(bridge))["accounts"] == each
        arena.faults.arm("prompt_failed")
        await (await bridge.post(bridge.chat("hi"))).read()
        found = await scraped(bridge)
        assert found["accounts"] == each | {("usable",): 0, ("resting",): 1}
        assert found["renewals_failing"] == {(): 0}  # the expired account does not count


async def test_the_end_of_the_session_that_ends_first_is_exposed(arena: Arena, tmp_path: Path) -> None:
    week, day = (
        arena.sign_in(f"{name}@example.org", expires_in=days * 86_400, renewable=False)
        for name, days in {"ada": 7, "bob": 1}.items()
    )
    async with measured(arena, tmp_path, week, day, arena.sign_in("carol@example.org")) as bridge:
        assert (await scraped(bridge))["session_expiry_timestamp_seconds"] == {(): day.expires_at}
        arena.expire(day)
        for account in bridge.state.pool:
            await bridge.app[RENEWALS].is_alive(account)  # asks the site at once
        assert (await scraped(bridge))["session_expiry_timestamp_seconds"] == {(): week.expires_at}


async def test_a_failing_renewal_is_counted_until_it_succeeds(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("server_error", None, on="me")
    for failing in (1, 0):
        await bridge.login_checked_again()
        found = await scraped(bridge)
        assert found["renewals_failing"] == {(): failing}
        assert found["accounts"]["usable",] == 1
        arena.faults.clear()


async def test_unknown_content_is_counted_by_kind(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("no_tag_line", 2)
    for _ in range(2):
        await (await bridge.post(bridge.chat("hi"))).read()
    assert (await scraped(bridge))["unknown_total"] == {("no tag",): 2}


async def test_a_wrong_clock_is_exposed(arena: Arena, tmp_path: Path) -> None:
    arena.clock = lambda: time.time() - 900
    async with measured(arena, tmp_path, arena.sign_in()) as bridge:
        found = await scraped(bridge)
        assert found["clock_skew_seconds"][()] == pytest.approx(-900, abs=5)
        assert found["troubles"]["rejected",] == 1


async def test_without_an_account_no_session_expiry_is_exposed(arena: Arena, tmp_path: Path) -> None:
    async with measured(arena, tmp_path) as bridge:
        found = await scraped(bridge)
        assert found["serving"] == {(): 0}
        assert "session_expiry_timestamp_seconds" not in found


async def test_the_metrics_contain_no_name_and_no_secret(bridge: RunningBridge) -> None:
    record(bridge.app[STATS].stats)
    async with bridge.http.get(f"{bridge.origin}/metrics", headers=bridge.headers) as answer:
        text = await answer.text()
    (account,), (key,) = bridge.state.pool, bridge.state.keys
    for secret in (KEY_NAME, EMAIL, account.session.value, account.user_id, bridge.key, key.hash, key.id):
        assert secret not in text


def test_the_metrics_of_the_process_are_exposed_when_proc_shows_only_processes(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("/proc/self")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(OwnProcessCollector(tmp_path))
    found = parsed(generate_latest(registry).decode())
    assert found["process_resident_memory_bytes"][()] > 1e6
    assert found["process_start_time_seconds"][()] == pytest.approx(time.time(), abs=86_400)
    assert {"process_cpu_seconds_total", "process_open_fds", "process_max_fds"} <= found.keys()


# --- cost and consumers ---


async def test_a_scrape_is_cheap_and_does_not_grow_with_the_number_of_keys(bridge: RunningBridge) -> None:
    stats = bridge.app[STATS].stats

    def use(key: str, *models: str) -> None:
        for model in models:
            stats.record(Outcome(200, Reason.OK, 1.0, model=model, key=key, ttft=0.5))

    use("key", *(f"a-model-of-ordinary-name-{number}" for number in range(2 * NAMES)))
    exposition = await bridge.app[METRICS].exposition()
    alone = await exposition.scrape()
    for number in range(NAMES):
        use(f"key {number}", "a-model-of-ordinary-name-0")
    bridge.state.keys = KeyRing(api_key(name=f"key {number}")[1] for number in range(2 * NAMES))
    crowded = await exposition.scrape()
    assert crowded.count(b"\n") == alone.count(b"\n") < 2 * NAMES + 250
    seconds = []
    for _ in range(5):
        began = time.thread_time()
        await exposition.scrape()
        seconds.append(time.thread_time() - began)
    assert min(seconds) < 0.03


@pytest.mark.parametrize("file", ["grafana-dashboard.json", "alerts.yml"])
async def test_the_grafana_dashboard_and_the_alerts_use_only_exposed_metrics(
    file: str, arena: Arena, tmp_path: Path
) -> None:
    async with measured(arena, tmp_path, arena.sign_in(renewable=False)) as bridge:
        record(bridge.app[STATS].stats)
        bridge.app[DRIFT].note({"no tag": 1})
        async with bridge.http.get(f"{bridge.origin}/metrics", headers=bridge.headers) as answer:
            exposed = parsed(await answer.text())
    asked = set(re.findall(r"\b(?:lmarena_bridge|process)_\w+", (MONITORING / file).read_text()))
    assert asked
    assert asked <= exposed.keys()


def test_grafana_can_import_the_dashboard() -> None:
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    assert dashboard["title"]
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {f"${{{variable['name']}}}" for variable in dashboard["templating"]["list"]}
    assert {panel["datasource"]["uid"] for panel in panels} <= variables
    corners = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(corners) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
