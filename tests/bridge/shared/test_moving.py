"""`state import` and `state export` move keys, accounts and statistics between files and Redis, and back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner
from places import shared_redis
from running import api_key

from bridge.shared.waiting_cookies import WaitingCookies
from bridge.state.documents import StateFolder
from bridge.state.state import ACCOUNTS, KEYS
from bridge.statistics.counts import Outcome
from bridge.statistics.file import stats_document
from bridge.statistics.stats import Stats
from handlers.commands.main import main
from upstream.accounts import Account
from upstream.arena import Arena
from upstream.protocol import cookies
from upstream.protocol.errors import Reason


async def test_state_is_moved_from_files_to_redis_and_back(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    key = api_key()[1]
    account = Account("ada", cookies.decode(Arena().sign_in().cookie_value))
    stats = Stats(time.time)
    stats.record(Outcome(200, Reason.OK, 1.0, model="a"))
    await folder.open(KEYS).save((key,))
    await folder.open(ACCOUNTS).save((account,))
    await stats_document(folder, time.time).save(stats)
    async with shared_redis(tmp_path / "processes") as redis:
        config = tmp_path / "bridge.toml"
        config.write_text(f'[server]\nstate_dir = "{folder.path}"\n[redis]\nurl = "{redis.server.url}"\n')

        async def run(*words: str) -> tuple[int, str]:
            result = await asyncio.to_thread(CliRunner().invoke, main, [*words, "--config", str(config)])
            return result.exit_code, result.output

        assert await run("keys", "list") == (0, "No key yet: lmarena-bridge keys add --name NAME\n")
        assert await run("state", "import") == (0, "Redis now has 1 keys and 1 accounts.\n")
        code, shown = await run("keys", "list")
        assert code == 0
        assert key.id in shown
        assert not (folder.path / "accounts.json").exists()
        assert (await run("state", "import"))[0] == 1  # Redis is no longer empty
        await redis.server.call("HSET", "lmab:instances", "another", round(time.time() * 1000))
        code, shown = await run("state", "export", "--replace")
        assert code == 1
        assert "a daemon is using this Redis" in shown
        await redis.server.call("HDEL", "lmab:instances", "another")
        renewed = replace(account, session=cookies.decode(Arena().sign_in().cookie_value))
        copies = StateFolder(folder.path / "shared")  # left by a daemon that could not save this cookie to Redis
        await WaitingCookies(copies).keep({account.user_id: account}, [renewed])
        assert await run("state", "export", "--replace") == (0, "the state folder now has 1 keys and 1 accounts.\n")
        assert await redis.server.call("KEYS", "lmab:doc:*") == []
    assert await folder.open(KEYS).load() == (key,)
    assert await folder.open(ACCOUNTS).load() == (renewed,)
    assert not [path for path in copies.path.iterdir() if path.suffix == ".json"]
    assert (await stats_document(folder, time.time).load()).totals.requests == 1
