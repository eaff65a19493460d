"""The token estimate is close to o200k_base and does not depend on how the text is cut.

The weights were fitted on other samples than these.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from importlib import import_module
from itertools import combinations, pairwise

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.answering.messages import Message, ToolCall
from bridge.answering.tokens import PIECE_CHARS, TokenCount, estimate, prompt_tokens

ENGLISH = """\
When the ferry finally reached the island, the passengers had been waiting on deck for almost an hour, wrapped in \
coats and blankets against the wind. A woman with two small children asked the captain whether the hotel on the hill \
was still open at this time of the year. He shrugged, smiled, and pointed to a single lit window far above the \
harbour. "If she's awake," he said, "she'll find you a bed. She always does."

The history of the lighthouse is shorter than most visitors expect. It was built in 1874 by a company that hoped to \
sell insurance to fishermen, and it was abandoned only thirty years later, after a storm had carried away both the \
lamp and the man who looked after it. Today it belongs to the university, which measures the height of the tides there \
and publishes the results every month. Nobody lives on that side of the island any more, although in summer a few \
students camp near the beach, cook over an open fire and argue about politics until the sun comes up.
"""

CHAT = """\
Sure! Here's how I would plan the trip:

1. **Book the train early.** Prices roughly double in the last two weeks before departure.
2. **Stay near the old town.** You can walk to the museum, the market and the river, so you won't need a car.
3. **Keep one day free.** If the weather is nice, take the boat to the gardens; if not, there's a great indoor pool.

A few things to keep in mind:

- Most shops are closed on Sundays.
- Tap water is safe to drink.
- Tipping isn't expected, but rounding up is polite 🙂

Would you like me to suggest some restaurants as well?
"""

PYTHON = '''\
from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path


class Inventory:
    """Keeps track of what is on which shelf."""

    def __init__(self, capacity: int = 100) -> None:
        self._shelves: dict[str, list[str]] = defaultdict(list)
        self.capacity = capacity

    def store(self, shelf: str, item: str) -> None:
        if len(self._shelves[shelf]) >= self.capacity:
            raise ValueError(f"shelf {shelf!r} is full ({self.capacity} items)")
        self._shelves[shelf].append(item)

    def find(self, item: str) -> str | None:
        for shelf, items in self._shelves.items():
            if item in items:
                return shelf
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="a CSV file with two columns")
    parser.add_argument("--capacity", type=int, default=100)
    args = parser.parse_args()
    inventory = Inventory(args.capacity)
    with args.file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            inventory.store(row["shelf"], row["item"])
    print(sum(1 for _ in inventory._shelves), "shelves")
    return 0
'''

JAVASCRIPT = """\
import { useEffect, useState } from "react";

export function useSearch(query, { delay = 250, limit = 20 } = {}) {
  const [results, setResults] = useState([]);
  const [error, setError] = useState(null);

  useEffect(() => {
    if (!query.trim()) {
      setResults([]);
      return;
    }
    const controller = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const response = await fetch(`/api/search?q=${encodeURIComponent(query)}&limit=${limit}`, {
          signal: controller.signal,
        });
        if (!response.ok) throw new Error(`Search failed: ${response.status}`);
        setResults((await response.json()).items);
      } catch (err) {
        if (err.name !== "AbortError") setError(err);
      }
    }, delay);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [query, delay, limit]);

  return { results, error };
}
"""

JSON = """\
{
  "order": {"id": 48213, "status": "shipped", "currency": "EUR", "total": 129.9},
  "customer": {"name": "Maria Keller", "email": "maria@example.org", "newsletter": false},
  "items": [
    {"sku": "LMP-0042", "title": "Desk lamp", "quantity": 1, "price": 79.9, "tags": ["light", "office"]},
    {"sku": "CBL-0007", "title": "USB cable, 2 m", "quantity": 5, "price": 10.0, "tags": []}
  ],
  "shipped_at": "2025-10-14T08:30:00Z",
  "tracking": null
}
"""

CHINESE = """\
去年秋天，我们一家人去了云南旅行。飞机降落在昆明的时候，天刚刚亮，空气里有一种淡淡的花香。我们先坐火车到大理，在洱海边住了三天。\
每天早上，孩子们在湖边捡石头，我和妻子坐在窗前喝茶，看着远处的山慢慢从雾里露出来。当地人非常热情，房东阿姨每天都给我们做新鲜的蘑菇汤，\
还教我们怎么分辨哪些蘑菇可以吃，哪些有毒。

第四天我们去了丽江。古城里的游客很多，但是只要拐进小巷子，就能找到安静的地方。晚上我们在一家小书店里听老板讲故事，他说自己原来是一名工程师，\
在深圳工作了十年，后来因为身体不好，就搬到这里开了这家店。虽然收入不高，但是每天都过得很开心。回家的路上，女儿问我们能不能也搬到这里来住，\
我们笑着说，等你长大了再决定吧。
"""

CHINESE_ANSWER = """\
可以的。要解决这个问题，首先需要了解缓存的工作原理。当用户第一次访问页面时，服务器会从数据库读取数据，并把结果保存在内存中；之后的请求就可以直接使用\
内存中的结果，从而大大提高响应速度。不过，使用缓存也会带来一些新的问题，例如数据更新之后缓存没有及时失效，用户就会看到旧的内容。

常见的解决办法有三种：第一，设置合理的过期时间；第二，在更新数据库的同时删除对应的缓存；第三，使用消息队列通知所有服务器刷新缓存。对于大多数网站来说，\
前两种方法已经足够。如果您的系统对一致性要求很高，建议您结合使用第二种和第三种方法，并做好监控。
"""

MIXED_ANSWER = """\
好的，下面是一个用 Python 读取 CSV 文件并统计每个城市平均温度的例子：

```python
import csv
from collections import defaultdict

totals, counts = defaultdict(float), defaultdict(int)
with open("weather.csv", newline="", encoding="utf-8") as file:
    for row in csv.DictReader(file):
        totals[row["city"]] += float(row["temperature"])
        counts[row["city"]] += 1

for city in sorted(totals):
    print(f"{city}: {totals[city] / counts[city]:.1f} °C")
```

说明如下：

- `csv.DictReader` 会把每一行转换成字典，键是表头中的列名。
- `defaultdict` 可以省去判断键是否存在的代码。
- 如果文件很大，可以考虑使用 pandas 的 `groupby` 方法，速度会更快。

Note that rows with an empty temperature will raise a `ValueError`; you may want to skip them first.
"""

PURE = {
    "english": ENGLISH,
    "chat": CHAT,
    "python": PYTHON,
    "javascript": JAVASCRIPT,
    "json": JSON,
    "chinese": CHINESE,
    "chinese answer": CHINESE_ANSWER,
}
MIXES = {
    "mixed answer": MIXED_ANSWER,
    "everything": "\n\n".join(PURE.values()),
    **{f"{one} + {two}": f"{PURE[one]}\n{PURE[two]}" for one, two in combinations(PURE, 2)},
}


@pytest.fixture(scope="module")
def o200k() -> Callable[[str], int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it loads its table with a deprecated API of importlib
        encoding = import_module("bpe_openai").get_encoding("o200k_base")
    return lambda text: len(encoding.encode_ordinary(text))


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in (PURE | MIXES).items()])
def test_token_estimates_are_within_15_percent_of_o200k(text: str, o200k: Callable[[str], int]) -> None:
    assert estimate(text) == pytest.approx(o200k(text), rel=0.15)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "Завтра утром мы поедем на дачу, если не будет дождя. Возьми тёплую куртку и термос.", id="Russian"
        ),
        pytest.param(
            "昨日は友達と映画を見に行きました。とても面白かったので、もう一度見たいと思います。", id="Japanese"
        ),
        pytest.param("Le garçon a mangé une pomme, puis il est allé à l'école avec sa sœur aînée.", id="French"),
        pytest.param("주말에는 가족과 함께 공원에서 산책을 하고 맛있는 점심을 먹었습니다.", id="Korean"),
        pytest.param("今天天氣很好，我們一起去公園散步，順便買一些水果回家。", id="traditional Chinese"),
        pytest.param("🎂🎁🥳 Happy birthday!! 🎉🎈", id="emoji"),
    ],
)
def test_token_estimates_of_other_scripts_are_within_35_percent_of_o200k(
    text: str, o200k: Callable[[str], int]
) -> None:
    assert estimate(text) == pytest.approx(o200k(text), rel=0.35)


def test_an_empty_text_has_no_tokens_and_any_character_at_least_one() -> None:
    assert TokenCount().total == estimate("") == 0
    for char in ("a", "Z", "7", ".", "\n", "é", "я", "中", "、", "한", "👋", "\ud83d", "\U0010ffff"):
        assert estimate(char) >= 1, char


texts = st.text(st.one_of(st.sampled_from("aZ7 .\n\té中👋\ud83d_(“"), st.characters()), max_size=60)


@a_share(of=2)
@given(texts, st.lists(st.integers(0, 60)), st.integers(1, 40))
def test_the_token_count_of_a_text_does_not_depend_on_its_cuts(text: str, cuts: list[int], times: int) -> None:
    text, count = text * times, TokenCount()
    seen = 0
    for start, end in pairwise([0, *sorted({cut * times for cut in cuts}), len(text)]):
        count.add(text[start:end])
        if end % 2:
            assert count.total >= seen, "it never falls"
            seen = count.total
    assert count.total == estimate(text)


def test_a_copied_token_count_counts_on_independently() -> None:
    count = TokenCount()
    count.add("one two")
    ahead = copy.copy(count)
    ahead.add(" three four")
    assert (count.total, ahead.total) == (estimate("one two"), estimate("one two three four"))


async def test_a_prompt_of_one_message_counts_as_its_text_alone() -> None:
    assert await prompt_tokens([Message("user", ENGLISH)]) == estimate(ENGLISH)


async def test_further_messages_add_their_tokens_to_those_before() -> None:
    history = [Message("user", ENGLISH), Message("assistant", PYTHON)]
    longer = [*history, Message("user", CHINESE)]
    added = await prompt_tokens(longer) - await prompt_tokens(history)
    assert added == pytest.approx(estimate(CHINESE), abs=5), "its text and its heading"


async def test_tool_calls_count_towards_the_prompt_tokens() -> None:
    call = ToolCall("call_1", "find_hotels", '{"city": "Lisbon", "nights": 3}')
    bare, calling = Message("assistant", "I look."), Message("assistant", "I look.", None, (call,))
    added = await prompt_tokens([calling]) - await prompt_tokens([bare])
    assert added == pytest.approx(estimate(call.name + call.arguments), abs=1)


async def test_a_long_prompt_counted_in_a_thread_has_the_same_token_count() -> None:
    text = "".join(PURE.values())
    text *= 2 * PIECE_CHARS // len(text) + 1
    assert await prompt_tokens([Message("user", text)]) == estimate(text)
