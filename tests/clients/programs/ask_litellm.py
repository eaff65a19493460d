"""LiteLLM as a client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import litellm
import openai
from job import Job, Say, run, spoken

litellm.suppress_debug_info = True


def begin(job: Job) -> Say:
    messages: list[Any] = []

    def say(text: str, picture: str | None) -> Iterator[str]:
        messages.append({"role": "user", "content": spoken(text, picture)})
        chunks = []
        for chunk in litellm.completion(
            model=f"openai/{job.model}",
            api_base=job.base_url,
            api_key=job.key,
            messages=messages,
            stream=True,
            num_retries=0,
            max_retries=0,
        ):
            chunks.append(chunk)
            if piece := chunk.choices[0].delta.content:
                yield piece
        messages.append(litellm.stream_chunk_builder(chunks).choices[0].message)

    return say


run(begin, openai.OpenAIError)
