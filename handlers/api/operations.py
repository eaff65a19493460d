"""The description of each call: one `Operation` for each row of `handlers/api/routes.py`."""

from __future__ import annotations

from typing import Final

from bridge.dialects.messages.models import DEFAULT_PAGE, MAX_PAGE
from bridge.dialects.responses.listed import MAX_ITEMS
from bridge.dialects.schema import integer, literal, string
from bridge.error_codes import Cause
from bridge.headers import ABOUT_ANSWER, ANTHROPIC_LIMITS, IGNORED, OPENAI_LIMITS, REASON
from handlers.reference.operation import HTML, TEXT, Answer, Operation, Parameter, Tag

TAGS: Final = (
    Tag("Chat Completions", "OpenAI's API for chats."),
    Tag("Responses", "OpenAI's API for agents, with items and stored responses."),
    Tag("Messages", "Anthropic's API."),
    Tag("Completions", "OpenAI's older API, which continues a text."),
    Tag("Images", "OpenAI's API for pictures."),
    Tag("Models", "In OpenAI's form, or in Anthropic's if the request has `anthropic-version`."),
    Tag("Monitoring", "For service managers, load balancers and Prometheus."),
    Tag("Reference", "This description of the API."),
)

_KEYED: Final = (Cause.REQUEST, Cause.KEY)
_READS: Final = (*_KEYED, Cause.BODY)
_MODEL: Final = (Cause.MODEL, Cause.MODELS)
#: The causes of errors of a call that asks a model.
_ASKS: Final = (*_READS, *_MODEL, Cause.LIMITS, Cause.PROMPT, Cause.SITE)
_FILES: Final = (Cause.PICTURES, Cause.DOCUMENTS)
_OF_ANSWER: Final = (REASON, *ABOUT_ANSWER)

_HELLO: Final = [{"role": "user", "content": "Hello!"}]
_VERSION: Final = Parameter("anthropic-version", string(), "Any version that Anthropic's clients send.", "header")
_RESPONSE_ID: Final = Parameter("id", string(), "The response's id.", "path")

CHAT: Final = Operation(
    "createChatCompletion",
    "Chat Completions",
    "Answer a chat",
    "If the site has a conversation with the same history as the request, it is continued there.",
    body="ChatCompletionRequest",
    answers=(Answer("The answer.", "ChatCompletion", events="ChatCompletionEvent"),),
    headers=(*_OF_ANSWER, *OPENAI_LIMITS),
    fails=(*_ASKS, *_FILES, Cause.JSON),
    example={"model": "MODEL", "stream": True, "messages": _HELLO},
)
COMPLETIONS: Final = Operation(
    "createCompletion",
    "Completions",
    "Continue a text",
    body="CompletionRequest",
    answers=(Answer("The answer.", "Completion", events="CompletionEvent"),),
    headers=(*_OF_ANSWER, *OPENAI_LIMITS),
    fails=_ASKS,
    example={"model": "MODEL", "stream": True, "prompt": "Once upon a time"},
)
MESSAGES: Final = Operation(
    "createMessage",
    "Messages",
    "Answer a message",
    parameters=(_VERSION,),
    body="MessageRequest",
    answers=(Answer("The message.", "Message", events="MessageEvent"),),
    headers=(*_OF_ANSWER, *ANTHROPIC_LIMITS),
    fails=(*_ASKS, *_FILES, Cause.JSON, Cause.THREAD),
    example={"model": "MODEL", "max_tokens": 1024, "stream": True, "messages": _HELLO},
)
COUNT_MESSAGE: Final = Operation(
    "countMessageTokens",
    "Messages",
    "Count a request's tokens",
    "No model is asked.",
    parameters=(_VERSION,),
    body="MessageCountRequest",
    answers=(Answer("An estimate.", "MessageTokens"),),
    headers=(REASON,),
    fails=(*_READS, *_MODEL, *_FILES, Cause.THREAD),
    example={"model": "MODEL", "messages": _HELLO},
)
RESPONSES: Final = Operation(
    "createResponse",
    "Responses",
    "Answer a request",
    "The response is stored unless `store` is false. In a stream, a prompt that is too long is reported by an event.",
    body="ResponseRequest",
    answers=(Answer("The response.", "Response", events="ResponseEvent"),),
    headers=(*_OF_ANSWER, *OPENAI_LIMITS),
    fails=(*_ASKS, *_FILES, Cause.JSON, Cause.PREVIOUS),
    example={"model": "MODEL", "stream": True, "input": "Hello!"},
)
COUNT_RESPONSE: Final = Operation(
    "countResponseTokens",
    "Responses",
    "Count a request's tokens",
    "No model is asked.",
    body="ResponseRequest",
    answers=(Answer("An estimate.", "ResponseInputTokens"),),
    headers=(REASON,),
    fails=(*_READS, *_MODEL, *_FILES, Cause.PREVIOUS),
    example={"model": "MODEL", "input": "Hello!"},
)
GET_RESPONSE: Final = Operation(
    "getResponse",
    "Responses",
    "Show a stored response",
    parameters=(_RESPONSE_ID, Parameter("stream", literal("false"), "`true` is answered with 400.")),
    answers=(Answer("The response as it was answered.", "Response"),),
    headers=(REASON,),
    fails=(*_KEYED, Cause.STORED),
)
DELETE_RESPONSE: Final = Operation(
    "deleteResponse",
    "Responses",
    "Delete a stored response",
    parameters=(_RESPONSE_ID,),
    answers=(Answer("The response is deleted.", "ResponseDeleted"),),
    headers=(REASON,),
    fails=(*_KEYED, Cause.STORED),
)
INPUT_ITEMS: Final = Operation(
    "listResponseInputItems",
    "Responses",
    "List the input items of a stored response",
    parameters=(
        _RESPONSE_ID,
        Parameter("order", literal("asc", "desc"), "By default, the newest items come first."),
        Parameter("limit", integer(minimum=1, maximum=MAX_ITEMS), "The number of items in a page."),
        Parameter("after", string(), "The id of the item after which the page begins."),
    ),
    answers=(Answer("A page of items.", "ResponseInputItems"),),
    headers=(REASON,),
    fails=(*_KEYED, Cause.STORED, Cause.QUERY),
)
CANCEL_RESPONSE: Final = Operation(
    "cancelResponse",
    "Responses",
    "Not served: nothing runs in the background",
    parameters=(_RESPONSE_ID,),
    fails=(*_KEYED, Cause.STORED),
)
NO_WEBSOCKET: Final = Operation(
    "openResponseSocket",
    "Responses",
    "Not served: there is no WebSocket",
    fails=(*_KEYED, Cause.METHOD),
)
NO_COMPACTION: Final = Operation(
    "compactResponse",
    "Responses",
    "Not served: clients compact conversations with a request of their own",
    fails=(*_KEYED, Cause.NOTHING_THERE),
)
GENERATE: Final = Operation(
    "createImage",
    "Images",
    "Draw pictures",
    body="ImageGenerationRequest",
    answers=(Answer("The pictures.", "Images"),),
    headers=(REASON, IGNORED, *OPENAI_LIMITS),
    fails=(*_ASKS, Cause.PICTURES),
    example={"model": "MODEL", "prompt": "a cat in a hat"},
)
EDIT: Final = Operation(
    "editImage",
    "Images",
    "Change pictures",
    body="ImageEditRequest",
    form="ImageEditForm",
    answers=(Answer("The pictures.", "Images"),),
    headers=(REASON, IGNORED, *OPENAI_LIMITS),
    fails=(*_ASKS, Cause.PICTURES),
    example={"model": "MODEL", "prompt": "give it a hat", "image": "data:image/png;base64,…"},
)
MODELS: Final = Operation(
    "listModels",
    "Models",
    "List the models that the key may use",
    "The best-ranked models come first. The parameters apply to Anthropic's form.",
    parameters=(
        _VERSION,
        Parameter(
            "limit", integer(minimum=1, maximum=MAX_PAGE, default=DEFAULT_PAGE), "The number of models in a page."
        ),
        Parameter("after_id", string(), "The id of the model after which the page begins."),
        Parameter("before_id", string(), "The id of the model before which the page ends."),
    ),
    answers=(Answer("The models.", "ModelsInEitherForm"),),
    headers=(REASON,),
    fails=(*_KEYED, Cause.MODELS, Cause.QUERY),
    in_either_form=True,
)
MODEL: Final = Operation(
    "getModel",
    "Models",
    "Show one model",
    "A model can be requested by any of its names, which may contain slashes.",
    parameters=(_VERSION, Parameter("name", string(), "A name, `name@xxxx`, id or display name.", "path")),
    answers=(Answer("The model.", "ModelInEitherForm"),),
    headers=(REASON,),
    fails=(*_KEYED, *_MODEL),
    in_either_form=True,
)
HEALTH: Final = Operation(
    "getHealth",
    "Monitoring",
    "Report what works and what is degraded",
    "A browser, which asks for `text/html`, gets a page.",
    answers=(
        Answer("A chat could be served.", "Health"),
        Answer("No chat could be served.", "Health", status=503),
    ),
    headers=(REASON,),
)
HEALTH_BELOW: Final = HEALTH._replace(id="getHealthBelowV1")
LIVEZ: Final = Operation(
    "getLiveness", "Monitoring", "Report that the process is running", answers=(Answer("ok", media=TEXT),)
)
READYZ: Final = Operation(
    "getReadiness",
    "Monitoring",
    "Report whether a chat could be served",
    answers=(Answer("ok", media=TEXT), Answer("not ok", media=TEXT, status=503)),
)
METRICS: Final = Operation(
    "getMetrics",
    "Monitoring",
    "Show the metrics",
    "In Prometheus's text format. The key must have been created with `--metrics`; if `server.open_metrics` is set, no"
    " key is needed.",
    answers=(Answer("The metrics.", media=TEXT),),
    fails=(*_KEYED, Cause.METRICS),
)
OPENAPI: Final = Operation(
    "getOpenapi",
    "Reference",
    "This document",
    answers=(
        Answer("OpenAPI 3.1.", "OpenapiDocument"),
        Answer("Not changed since the version in `If-None-Match`.", status=304),
    ),
    headers=("ETag",),
)
DOCS: Final = Operation(
    "getDocs",
    "Reference",
    "The API reference as a page",
    answers=(
        Answer("A page.", media=HTML),
        Answer("Not changed since the version in `If-None-Match`.", status=304),
    ),
    headers=("ETag",),
)
