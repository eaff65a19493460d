"""LangChain's `ChatOpenAI`, alone and as the model of LangChain's own agent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
from job import FUNCTIONS, Job, Say, called, run, spoken
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Animal(BaseModel):
    """What `with_structured_output` is asked for."""

    name: str
    legs: int


def begin(job: Job) -> Say:
    chat = ChatOpenAI(base_url=job.base_url, api_key=job.key, model=job.model, max_retries=0)
    return {"talk": talking, "tools": calling, "agent": acting, "structured": parsing}[job.task](chat)


def talking(chat: ChatOpenAI) -> Say:
    messages: list[Any] = []

    def say(text: str, picture: str | None) -> Iterator[str]:
        messages.append(HumanMessage(spoken(text, picture)))
        whole: Any = None
        for chunk in chat.stream(messages):
            whole = chunk if whole is None else whole + chunk
            if chunk.content:
                yield chunk.content
        messages.append(whole)  # as agents do: the joined chunks, with all their fields

    return say


def calling(chat: ChatOpenAI) -> Say:
    """Call the tools in a loop written by hand."""
    tools = {name: tool(function) for name, function in FUNCTIONS.items()}
    bound = chat.bind_tools(list(tools.values()))
    messages: list[Any] = []

    def say(text: str, _: str | None) -> Iterator[str]:
        messages.append(HumanMessage(text))
        while True:
            answer = bound.invoke(messages)
            messages.append(answer)
            if not answer.tool_calls:
                yield answer.content
                return
            for call in answer.tool_calls:
                yield called(call["name"], call["args"])
                messages.append(tools[call["name"]].invoke(call))

    return say


def acting(chat: ChatOpenAI) -> Say:
    """Let LangChain's own agent call the tools."""
    agent: Any = create_agent(chat, [tool(function) for function in FUNCTIONS.values()], system_prompt="Be brief.")
    messages: list[Any] = []

    def say(text: str, _: str | None) -> Iterator[str]:
        messages.append(HumanMessage(text))
        added = agent.invoke({"messages": messages})["messages"][len(messages) :]
        messages.extend(added)
        for answer in added:
            for call in getattr(answer, "tool_calls", []):
                yield called(call["name"], call["args"])
        yield added[-1].content

    return say


def parsing(chat: ChatOpenAI) -> Say:
    structured = chat.with_structured_output(Animal)

    def say(text: str, _: str | None) -> Iterator[str]:
        yield structured.invoke(text).model_dump_json()

    return say


run(begin, openai.OpenAIError)
