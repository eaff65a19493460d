"""Instructor: in its JSON mode, in which an object can be read while it is streamed, and in its other modes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import instructor
import openai
from instructor.core.exceptions import InstructorError
from job import Job, Say, run
from pydantic import BaseModel


class Animal(BaseModel):
    """What is asked for."""

    name: str
    legs: int


MODES = {
    "talk": instructor.Mode.JSON,
    "tools": instructor.Mode.TOOLS,
    "json": instructor.Mode.JSON,
    "schema": instructor.Mode.JSON_SCHEMA,
}


def begin(job: Job) -> Say:
    client = instructor.from_openai(
        openai.OpenAI(base_url=job.base_url, api_key=job.key, max_retries=0), mode=MODES[job.task]
    )
    messages: list[Any] = []

    def say(text: str, picture: str | None) -> Iterator[str]:
        content = text if picture is None else [text, instructor.Image.from_base64(picture)]
        messages.append({"role": "user", "content": content})
        asked: Any = {"model": job.model, "messages": messages, "response_model": Animal, "max_retries": 0}
        if job.task == "talk" and len(job.turns) == 1:
            for animal in client.create_partial(**asked):
                yield animal.model_dump_json(exclude_none=True)
            return
        animal, completion = client.create_with_completion(**asked)  # a stream does not give its text
        yield animal.model_dump_json()
        if job.task != "talk":
            return
        messages.append({"role": "assistant", "content": completion.choices[0].message.content})

    return say


run(begin, InstructorError, openai.OpenAIError)
