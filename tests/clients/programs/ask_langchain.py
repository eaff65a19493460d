"""LangChain's `ChatOpenAI`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
from job import Job, Say, run, spoken
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI


def begin(job: Job) -> Say:
    chat = ChatOpenAI(base_url=job.base_url, api_key=job.key, model=job.model, max_retries=0)
    messages: list[Any] = []

    def say(text: str, picture: str | None) -> Iterator[str]:
        messages.append(HumanMessage(spoken(text, picture)))
        whole: Any = None
        for chunk in chat.stream(messages):
            whole = chunk if whole is None else whole + chunk
            if chunk.content:
                yield chunk.content
        messages.append(whole)  # as agents do: the chunks joined, with all that stands in them

    return say


run(begin, openai.OpenAIError)
