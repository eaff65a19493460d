"""The `openai` package of Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
from job import Job, Say, run, spoken


def begin(job: Job) -> Say:
    client = openai.OpenAI(base_url=job.base_url, api_key=job.key, max_retries=0)
    messages: list[Any] = []

    def say(text: str, picture: str | None) -> Iterator[str]:
        messages.append({"role": "user", "content": spoken(text, picture)})
        with client.chat.completions.stream(model=job.model, messages=messages) as stream:
            for event in stream:
                if event.type == "content.delta":
                    yield event.delta
            answer = stream.get_final_completion().choices[0].message
        messages.append({"role": "assistant", "content": answer.content})

    return say


run(begin, openai.OpenAIError)
