"""What the provider calls the members of a request, and what stands in each.

From Google's discovery document `aiplatform.v1`, `GenerateContentRequest`. Members that are not
here are nobody's mistake: they are left as they are and judged like data of the caller's own.
"""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final

import msgspec


class Kind(Enum):
    """What stands in a member."""

    SCALAR = "scalar"
    MESSAGE = "message"
    DATA = "data"
    """An object of the caller's own making, with names of his own."""
    SCHEMA = "schema"
    """The provider's own dialect of schemas."""
    JSON_SCHEMA = "json_schema"


class Member(msgspec.Struct, frozen=True):
    """One member of a message."""

    kind: Kind
    of: "Message | None" = None
    is_list: bool = False
    may_be_dropped: bool = False
    """Whether it says nothing when it is empty."""


class Message(msgspec.Struct, frozen=True):
    """One kind of object."""

    members: Mapping[str, Member]
    names: frozenset[str]
    camel_of: Mapping[str, str]
    """The other spelling that the provider reads, such as `file_data`, and its own."""
    when_empty: tuple[str, str] | None = None
    """A member and the value that it has anyway: what is written where being there means something
    and nothing is in it."""


_CAPITAL: Final = re.compile(r"(?<!^)([A-Z])")


def _message(
    scalars: str = "",
    lists: str = "",
    when_empty: tuple[str, str] | None = None,
    **members: Member,
) -> Message:
    every = {
        **dict.fromkeys(scalars.split(), Member(Kind.SCALAR)),
        **dict.fromkeys(lists.split(), Member(Kind.SCALAR, is_list=True)),
        **members,
    }
    camel_of = {_CAPITAL.sub(r"_\1", name).lower(): name for name in every}
    return Message(
        every,
        frozenset(every),
        {snake: name for snake, name in camel_of.items() if snake != name},
        when_empty,
    )


def _one(message: Message) -> Member:
    """Return a member whose being there means something, even when it is empty."""
    return Member(Kind.MESSAGE, message)


def _config(message: Message) -> Member:
    """Return a member that only holds settings: an empty one sets nothing."""
    return Member(Kind.MESSAGE, message, may_be_dropped=True)


def _many(message: Message) -> Member:
    return Member(Kind.MESSAGE, message, is_list=True)


_DATA: Final = Member(Kind.DATA)
_SCHEMA: Final = Member(Kind.SCHEMA)
_JSON_SCHEMA: Final = Member(Kind.JSON_SCHEMA)
_EMPTY: Final = _message()
_FILE: Final = _message("mimeType fileUri displayName")
_BLOB: Final = _message("mimeType data displayName")
_NO_BLOCKING: Final = ("blockingConfidence", "PHISH_BLOCK_THRESHOLD_UNSPECIFIED")

_PART: Final = _message(
    "text thought thoughtSignature",
    inlineData=_one(_BLOB),
    fileData=_one(_FILE),
    functionCall=_one(
        _message(
            "name id willContinue",
            # Optional in the discovery document: a call without arguments.
            args=Member(Kind.DATA, may_be_dropped=True),
            partialArgs=_many(
                _message("jsonPath boolValue nullValue numberValue stringValue willContinue")
            ),
        )
    ),
    functionResponse=_one(
        _message(
            "name id scheduling",
            response=_DATA,
            parts=_many(_message(inlineData=_one(_BLOB), fileData=_one(_FILE))),
        )
    ),
    executableCode=_one(_message("code language")),
    codeExecutionResult=_one(_message("outcome output")),
    mediaResolution=_config(_message("level")),
    videoMetadata=_config(_message("startOffset endOffset fps")),
)
_CONTENT: Final = _message("role", parts=_many(_PART))
_VOICE: Final = _message(
    prebuiltVoiceConfig=_one(_message("voiceName")),
    replicatedVoiceConfig=_one(_message("mimeType voiceSampleAudio")),
)
CONFIG: Final = _message(
    "audioTimestamp candidateCount enableAffectiveDialog frequencyPenalty logprobs maxOutputTokens "
    "mediaResolution presencePenalty responseLogprobs responseMimeType seed temperature topK topP",
    lists="responseModalities stopSequences",
    responseSchema=_SCHEMA,
    responseJsonSchema=_JSON_SCHEMA,
    imageConfig=_config(
        _message(
            "aspectRatio imageSize personGeneration prominentPeople",
            imageOutputOptions=_config(_message("compressionQuality mimeType")),
        )
    ),
    thinkingConfig=_config(_message("includeThoughts thinkingBudget thinkingLevel")),
    routingConfig=_one(
        _message(
            autoMode=_one(_message("modelRoutingPreference")),
            manualMode=_one(_message("modelName")),
        )
    ),
    speechConfig=_config(
        _message(
            "languageCode",
            voiceConfig=_config(_VOICE),
            multiSpeakerVoiceConfig=_one(
                _message(speakerVoiceConfigs=_many(_message("speaker", voiceConfig=_one(_VOICE))))
            ),
        )
    ),
)
_FUNCTION: Final = _message(
    "name description behavior",
    # Left unset for a function without parameters, says the discovery document.
    parameters=Member(Kind.SCHEMA, may_be_dropped=True),
    response=_SCHEMA,
    parametersJsonSchema=_JSON_SCHEMA,
    responseJsonSchema=_JSON_SCHEMA,
)
_TOOL: Final = _message(
    functionDeclarations=_many(_FUNCTION),
    googleSearch=_one(
        _message(
            "blockingConfidence",
            lists="excludeDomains",
            when_empty=_NO_BLOCKING,
            searchTypes=_one(_message(webSearch=_one(_EMPTY), imageSearch=_one(_EMPTY))),
        )
    ),
    enterpriseWebSearch=_one(
        _message("blockingConfidence", lists="excludeDomains", when_empty=_NO_BLOCKING)
    ),
    googleMaps=_one(_message("enableWidget")),
    googleSearchRetrieval=_one(
        _message(dynamicRetrievalConfig=_config(_message("mode dynamicThreshold")))
    ),
    codeExecution=_one(_EMPTY),
    urlContext=_one(_EMPTY),
    computerUse=_one(
        _message("environment enablePromptInjectionDetection", lists="excludedPredefinedFunctions")
    ),
    retrieval=_DATA,
    exaAiSearch=_DATA,
    parallelAiSearch=_DATA,
)
REQUEST: Final = _message(
    "cachedContent",
    contents=_many(_CONTENT),
    systemInstruction=_one(_CONTENT),
    generationConfig=_config(CONFIG),
    safetySettings=_many(_message("category method threshold")),
    tools=_many(_TOOL),
    toolConfig=_config(
        _message(
            functionCallingConfig=_config(
                _message("mode streamFunctionCallArguments", lists="allowedFunctionNames")
            ),
            retrievalConfig=_config(
                _message("languageCode", latLng=_one(_message("latitude longitude")))
            ),
        )
    ),
    labels=Member(Kind.DATA, may_be_dropped=True),
    modelArmorConfig=_config(_message("promptTemplateName responseTemplateName")),
)

SCHEMA: Final = _message(
    "description format maxItems maxLength maxProperties maximum minItems minLength minProperties "
    "minimum nullable pattern ref title type",
    lists="enum propertyOrdering required",
    additionalProperties=_SCHEMA,
    anyOf=Member(Kind.SCHEMA, is_list=True),
    default=_DATA,
    defs=_DATA,
    example=_DATA,
    items=_SCHEMA,
    properties=_DATA,
)
"""One schema of the provider's own dialect."""
