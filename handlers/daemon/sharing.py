"""The state that is shared through Redis, for the daemon and for commands: imported only if it is configured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.config.problems import ConfigError, Problem
from bridge.config.schema import NO_PLACE, Config
from bridge.state.documents import StateFolder

if TYPE_CHECKING:
    from bridge.shared.sharing import Sharing


def sharing_of(config: Config, folder: StateFolder) -> Sharing | None:
    """What is shared, None if the state is in files. Raises ConfigError if the client library is missing."""
    if not config.redis.url.value:
        return None
    try:
        from bridge.shared.sharing import Sharing  # which needs a library that is optional
    except ImportError as error:
        what = "needs the client library: pip install 'lmarena-bridge[redis]'"
        raise ConfigError(Problem(str(config.source or NO_PLACE), "redis.url", what)) from error
    return Sharing(config.redis, folder)
