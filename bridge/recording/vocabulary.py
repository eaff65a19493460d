"""The words that a recording keeps: those of the protocols, which are the same in every installation.

All other letters and digits are replaced (`bridge.recording.stand_ins`), so recordings say less if a word is missing
here. No word here can be anybody's secret.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Keys of JSON objects: of the front APIs, of JSON Schema, and of the site. Short numbers as their values are kept.
KEYS: Final = _words("""
    $defs $ref additionalProperties allOf annotations anyOf args argsTextDelta arguments arena aspectRatios
    attachments audio background battle cache_control cached_tokens capabilities charLocation choices code completion
    completion_tokens completion_tokens_details const content contentType content_block content_index created
    created_at data default delta description detail details developer display_height_px display_width_px
    displayName effort email enum end_turn error evaluationId evaluationSessionId exclusiveMaximum exclusiveMinimum
    experimental_attachments expires_at failureReason file file_data file_id filename finishReason finish_reason format
    frequency_penalty function function_call functions id image imageUrl image_url images incomplete_details index
    inputCapabilities input input_audio input_schema input_tokens input_tokens_details instructions integer isContinued
    issues item item_id items json_schema key last_error limit logit_bias logprobs max_completion_tokens
    max_output_tokens max_tokens maxItems maxLength maximum media_type message messageId messages metadata mimeType
    minItems minLength minimum modality mode model modelAId modelAMessageId modelBId modelBMessageId models n name not
    not_before object oneOf organization output outputCapabilities output_index output_tokens output_tokens_details
    outputs parallel_tool_calls parameters param participantPosition path pattern presence_penalty
    previous_response_id prompt prompt_cache_key prompt_tokens prompt_tokens_details properties provider publicName
    quality rank rankByModality reason reasoning reasoning_content reasoning_effort reasoning_tokens refusal required
    response response_format retryable role safety_identifier schema seed sequence_number service_tier signedUrl size
    source sourceType sources status stop stop_reason stop_sequence stop_sequences store stream stream_options strict
    string style success suffix summary system system_fingerprint temperature text thinking title tool tool_call
    tool_call_id tool_calls tool_choice tool_use_id tools top_k top_logprobs top_p total_tokens touConsentTimestamp
    truncation type uniqueItems uploadUrl url usage user userMessage userMessageId userSelectable value verbosity
    web_search_options
""")

#: Whole strings that are values of a protocol. They are kept except under TEXT_KEYS.
VALUES: Final = _words("""
    a b allowed_tools any application/json application/pdf array assistant auto b64_json battle boolean chat
    chat.completion chat.completion.chunk chat_template_kwargs completed completion content-filter content_block_delta
    content_block_start content_block_stop content_filter custom developer direct direct-battle disabled document
    enabled end_turn ephemeral error failed false file flex function function_call function_call_output grammar
    hasArenaError heartbeat high image image/gif image/jpeg image/png image/webp image_url in_progress incomplete
    input_audio input_file input_image input_json_delta input_text integer json json_object json_schema length list
    low max_output_tokens max_tokens medium message message_delta message_start message_stop minimal model none null
    number object output_text pending priority reasoning refusal required response scale search stop stop_sequence
    string success system text text/plain text_completion text_delta thinking thinking_delta tool tool_calls
    tool_result tool_use true unknown url user webdev xhigh
    ErrorEvent ZodError api_error authentication_error billing_error invalid_request_error not_found_error
    overloaded_error permission_error rate_limit_error request_too_large server_error timeout_error
    response.created response.in_progress response.completed response.failed response.incomplete
    response.output_item.added response.output_item.done response.content_part.added response.content_part.done
    response.output_text.delta response.output_text.done response.function_call_arguments.delta
    response.function_call_arguments.done response.reasoning_summary_text.delta 1024x1024 512x512 256x256
""")

#: Keys whose values a person or a model wrote: such a value is not kept even if it is a word of a protocol.
TEXT_KEYS: Final = _words("""
    content text prompt input instructions system message delta arguments partial_json output reasoning
    reasoning_content thinking summary description title error failureReason suffix argsTextDelta value
""")

#: Keys whose values name something that other parts of a recording refer to: tools, parameters, stop strings.
NAMING_KEYS: Final = _words("name required enum const stop stop_sequences stop_sequence function tool")

#: Keys whose values are names of models.
MODEL_KEYS: Final = _words("model publicName")

#: Words of the site's refusals, by which the bridge recognizes them, and of error pages and challenges in front of it.
SITE_WORDS: Final = _words("""
    Unauthorized LOGIN_GATE User user does not have access to evaluation session Evaluation Session ID seems spoofed
    offset too big recaptcha validation failed You you must accept the Terms of Use terms use before can chat agree
    consent Consent Accept accepted Bad bad next turn request in Battles Direct mode DIRECT was requested but expected
    a BATTLE battle is allowed when starting new conversation direct Models Model models model found no longer
    available Chosen Invalid invalid Too many requests please try again later prompt Prompt PromptFailedError
    Method Not Allowed Gone Forbidden Unsupported Media Type content type Something went wrong An An error occurred
    The overloaded hasArenaError String Number String Required contain at most least character characters s must be
    greater than less Input too_big too_small invalid_type invalid_string custom ZodError
    Just just moment Attention Cloudflare Verifying human This this may take few seconds Sorry blocked been page Page
    could be found not_found NotFound Internal Server Error Service Unavailable Gateway Timeout Bad Arena We will back
    soon DOCTYPE doctype html head title body h1 h2 p div span script meta lang en xml version encoding UTF Code Message
    SlowDown AccessDenied SignatureDoesNotMatch Please reduce your rate has expired signature calculated flagged by our
    moderation rephrase it
""")

#: Parts of paths, of the bridge and of the site.
PATH_WORDS: Final = _words("""
    v1 api chat completions responses messages images generations edits models count_tokens input_tokens input_items
    cancel nextjs nextjs-api stream create evaluation create-evaluation post to post-to-evaluation retry
    retry-evaluation-session-message text direct search image code mode me model-catalog c _next static chunks js login
    https http
""")

#: Headers in whose values digits, punctuation and HEADER_WORDS are kept.
PLAIN_HEADERS: Final = _words("""
    accept accept-encoding age anthropic-version cache-control cf-mitigated connection content-encoding content-length
    content-type date keep-alive ratelimit ratelimit-limit ratelimit-policy ratelimit-remaining ratelimit-reset
    retry-after server transfer-encoding vary x-accel-buffering x-bridge-conversation x-bridge-join x-bridge-reason
    x-nextjs-action-not-found x-stainless-retry-count x-should-retry
""")
HEADER_WORDS: Final = _words("""
    application json text plain event-stream event stream html xml octet-stream octet x-component component charset utf
    UTF multipart form-data form data boundary image png jpeg gif webp pdf svg gzip deflate br zstd identity chunked
    close keep-alive keep alive no-store no store cache max-age max age private public challenge cloudflare GMT Mon Tue
    Wed Thu Fri Sat Sun Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec limit remaining reset w q r lmarena-bridge
    lmarena bridge ok true false yes origin accept encoding new follow-up regenerate joined why same
""")

#: All headers whose names are kept. The values of those that are not in PLAIN_HEADERS are replaced.
HEADER_NAMES: Final = PLAIN_HEADERS | _words("""
    access-control-allow-origin authorization cf-ray cookie host location next-action origin referer set-cookie
    user-agent x-api-key x-bridge-account x-bridge-evaluation x-bridge-ignored x-bridge-model
    x-content-type-options x-forwarded-for x-request-id request-id strict-transport-security traceparent
    x-stainless-arch x-stainless-async x-stainless-lang x-stainless-os x-stainless-package-version x-stainless-runtime
    x-stainless-runtime-version x-stainless-timeout x-stainless-read-timeout x-stainless-helper-method
""")

#: Names and attributes of cookies, which are kept.
COOKIE_WORDS: Final = _words("""
    arena-auth-prod-v1 cf_clearance base64 Path path HttpOnly Secure SameSite Lax Max-Age Expires Domain Max Age auth
    arena prod v1 0 1 2
""")

#: Words of the syntaxes in which models write tool calls. They are kept right behind a quote or bracket, if the request
#: asked for tool calls or JSON.
CALL_WORDS: Final = _words("""
    tool_call tool_calls tool_use function_call function_calls invoke name parameter parameters arguments function
    args input type id tool arg_key arg_value json TOOL_CALLS ARGS python_tag tool_call_begin tool_call_end
    tool_call_argument_begin tool_calls_section_begin tool_calls_section_end functions channel commentary constrain
    message call calls begin end sep
""")
