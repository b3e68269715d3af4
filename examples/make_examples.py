"""Write reviews.jsonl and images.jsonl beside this file; the same bytes every time.

    python examples/make_examples.py

Every line keeps to what Vertex AI's importer can take (it loads the file like a BigQuery table): a
member has one type in all lines, no object is empty, no name starts with `$`, and nothing is null.
"""

# A script, not a package; and Chinese has its own comma.
# ruff: noqa: INP001, RUF001

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Line = dict[str, Any]
Pixel = tuple[int, int, int]

FOLDER = Path(__file__).parent
SCONES = "gs://cloud-samples-data/generative-ai/image/scones.jpg"

# (language, product, stars, review): the same five products, as people write about them.
REVIEWS = [
    (
        "en",
        "kettle",
        5,
        "Boils in two minutes and the handle stays cool. Best kettle I have owned.",
    ),
    ("en", "backpack", 2, "The zip broke on day three. The shop was kind, but I missed my train."),
    ("en", "lamp", 4, "Warm light, solid base. The cable is a bit short for my desk."),
    ("en", "headphones", 1, 'Left side dead after a week. "Premium", they said. Avoid!'),
    ("en", "notebook", 3, "Paper is fine. Cover is fine. Everything is fine, I guess."),
    ("de", "kettle", 4, "Schnell und leise, nur der Deckel klemmt manchmal ein wenig."),
    ("de", "backpack", 5, "Seit zwei Jahren täglich dabei, auch bei Regen. Klare Empfehlung."),
    ("de", "lamp", 2, "Flackert auf der niedrigsten Stufe. Für 89 € erwarte ich mehr."),
    ("de", "headphones", 5, "Großartiger Klang, die Bässe drücken nicht. Übertrifft alles bisher."),
    ("de", "notebook", 1, "Kam mit geknicktem Umschlag und Kaffeefleck (!) auf Seite 12."),
    ("fr", "kettle", 1, "Elle fuit dès le premier jour. Service client injoignable."),
    ("fr", "backpack", 4, "Confortable, bien pensé, mais la poche latérale est trop étroite."),
    ("fr", "lamp", 5, "Lumière douce, parfaite pour lire le soir. Mon fils l'a adoptée."),
    ("fr", "headphones", 3, "Le son est correct ; l'application, elle, plante tout le temps."),
    ("fr", "notebook", 5, "Papier épais, l'encre ne traverse pas. Je rachète sans hésiter."),
    ("es", "kettle", 5, "¡Una maravilla! Silenciosa, rápida y bonita."),
    ("es", "backpack", 1, "Las costuras se abrieron en el primer viaje. Muy decepcionado."),
    ("es", "lamp", 3, "Cumple, aunque el botón está en un sitio incómodo."),
    ("es", "headphones", 4, "Muy buena cancelación de ruido; aprietan un poco a la hora."),
    ("es", "notebook", 2, "Las hojas se sueltan. No vale lo que cuesta."),
    ("it", "kettle", 3, "Funziona, ma il manico scotta se la riempi fino all'orlo."),
    ("it", "backpack", 5, "Leggero e capiente: tre settimane in Asia senza un problema."),
    ("it", "lamp", 4, "Bella e robusta, montaggio in cinque minuti."),
    ("it", "headphones", 2, "Batteria dichiarata 30 ore, reali 9. Peccato."),
    ("it", "notebook", 5, "Il mio compagno di ogni riunione. Carta meravigliosa."),
    ("pt", "kettle", 2, "Depois de um mês começou a apitar sozinha de madrugada."),
    ("pt", "backpack", 4, "Ótima mochila, só faltou um bolso para a garrafa."),
    ("pt", "lamp", 5, "A luz é linda e a regulagem é precisa. Comprei mais duas."),
    ("pt", "headphones", 5, "Som limpo e chamada sem eco. Recomendo muito."),
    ("pt", "notebook", 3, "Bom caderno, mas a entrega demorou três semanas."),
    ("ja", "kettle", 5, "軽くて注ぎやすく、毎朝のコーヒーが楽しみになりました。"),
    ("ja", "backpack", 3, "作りは良いですが、背中が少し蒸れます。"),
    ("ja", "lamp", 1, "届いた時点で点灯しませんでした。返品します。"),
    ("ja", "headphones", 4, "音質は満足。ケースがもう少し小さければ完璧です。"),
    ("ja", "notebook", 5, "万年筆でも裏抜けしません。リピート確定です。"),
    ("zh", "kettle", 4, "烧水很快，就是盖子有点紧。"),
    ("zh", "backpack", 5, "出差半年，天天背，一点都没坏。"),
    ("zh", "lamp", 4, "光线柔和，孩子写作业不累眼。"),
    ("zh", "headphones", 1, "戴了十分钟耳朵就疼，客服还不回消息。"),
    ("zh", "notebook", 2, "纸太薄，写字会透到背面。"),
    ("ko", "kettle", 1, "플라스틱 냄새가 너무 심해서 쓸 수가 없어요."),
    ("ko", "backpack", 4, "수납이 좋고 가벼워요. 색상은 사진보다 조금 어둡습니다."),
    ("ko", "lamp", 5, "침대 옆에 두기 딱 좋아요. 조도 조절이 부드럽습니다."),
    ("ko", "headphones", 5, "지하철 소음이 사라졌어요. 인생 헤드폰입니다."),
    ("ko", "notebook", 3, "무난합니다. 가격 생각하면 괜찮아요."),
    ("hi", "kettle", 5, "पानी बहुत जल्दी उबलता है, माँ को बहुत पसंद आई।"),
    ("hi", "backpack", 2, "एक महीने में ही पट्टा टूट गया, पैसे बर्बाद।"),
    ("hi", "lamp", 4, "रोशनी अच्छी है, बस तार थोड़ी छोटी है।"),
    ("hi", "headphones", 3, "आवाज़ ठीक है, लेकिन माइक कमज़ोर है।"),
    ("hi", "notebook", 5, "काग़ज़ बढ़िया, स्याही नहीं फैलती।"),
    ("ar", "kettle", 2, "توقفت عن العمل بعد أسبوعين، والضمان لم يساعدني."),
    ("ar", "backpack", 5, "حقيبة ممتازة ومريحة، أستخدمها كل يوم في الجامعة."),
    ("ar", "lamp", 3, "الإضاءة جيدة لكن اللون أصفر أكثر مما توقعت."),
    ("ar", "headphones", 4, "صوت رائع وسعر مناسب، لكن العلبة كبيرة."),
    ("ar", "notebook", 1, "وصل الدفتر ممزقًا من الزاوية."),
    ("pl", "kettle", 4, "Cichy i szybki, ale pokrywka czasem się zacina."),
    ("pl", "backpack", 1, "Zamek zepsuł się po tygodniu. Nie polecam."),
    ("pl", "lamp", 5, "Świetna lampka, ciepłe światło, żadnego migotania. 💡"),
    ("pl", "headphones", 2, "Dźwięk płaski jak deska, a łączność zrywa się co chwilę."),
    ("pl", "notebook", 4, "Gruby papier, ładna okładka, brakuje tylko zakładki."),
]

TRANSLATE_TO = {
    "en": "German", "de": "English", "fr": "Spanish", "es": "French", "it": "English",
    "pt": "English", "ja": "English", "zh": "English", "ko": "English", "hi": "English",
    "ar": "English", "pl": "English",
}  # fmt: skip

QUESTIONS = [
    ("My kettle stopped halfway. Is it broken?", "Does its light still come on when you lift it?",
     "Yes, but it clicks off after ten seconds."),
    ("Can I wash the backpack?", "Which one is it: canvas or nylon?", "The grey nylon one."),
    ("The lamp flickers.", "On every level, or only on the lowest?", "Only on the lowest."),
    ("Headphones will not pair with my laptop.", "Do they pair with your phone?",
     "With the phone they do."),
    ("Where is my order?", "I can look it up. What is its number?", "It is A-20417."),
    ("I was charged twice.", "I am sorry. On which day?", "On the 3rd and again on the 4th."),
    ("Do you ship to Iceland?", "We do. Is it for a private address?", "Yes, in Akureyri."),
    ("The notebook arrived bent.", "I am sorry. Would you like a new one or your money back?",
     "A new one, please, in blue this time."),
]  # fmt: skip

PRODUCT_FACTS = {
    "kettle": "Steel kettle, 1.7 l, 2400 W, 1.2 kg, boils 1 l in 2 min 40 s, 3 years of warranty.",
    "backpack": "Nylon backpack, 24 l, 980 g, rain cover, 15 inch laptop sleeve, lifetime repair.",
    "lamp": "Desk lamp, 9 W LED, 2700 K, dimmable in 5 steps, 1.4 m cable, aluminium and oak.",
    "headphones": "Over-ear headphones, 30 h battery, Bluetooth 5.3, 254 g, folds, two colours.",
    "notebook": "A5 notebook, 192 pages, 120 g/m2, dotted, thread-bound, lies flat, FSC paper.",
}

IMAGE_PROMPTS = [
    ("kettle-studio", "A brushed steel kettle on a white background, soft studio light."),
    ("kettle-kitchen", "The same kind of kettle in a small sunny kitchen, steam rising."),
    ("backpack-rain", "A grey backpack under a rain cover on a wet station platform at dusk."),
    ("backpack-flatlay", "A flat lay of a backpack and what a weekend hiker packs into it."),
    ("lamp-desk", "An oak and aluminium desk lamp lighting an open notebook at night."),
    ("lamp-diagram", "A simple line drawing of a desk lamp with three labelled parts."),
    ("headphones-float", "Over-ear headphones floating before a deep blue gradient."),
    ("headphones-subway", "A commuter with closed eyes and headphones in a crowded subway."),
    ("notebook-ink", "A macro shot of a fountain pen writing on thick dotted paper."),
    ("notebook-stack", "A stack of five pastel notebooks, casting long morning shadows."),
    ("poster-sale", 'A minimal poster that says "Autumn sale" in a friendly serif type.'),
    ("icon-set", "A set of four flat icons: kettle, backpack, lamp, headphones."),
]


def png(width: int, height: int, pixels: Iterator[Pixel]) -> str:
    """Return a small PNG in base64; stored, not deflated, so that every zlib gives the same."""
    rows = bytearray()
    for _ in range(height):
        rows.append(0)
        for _ in range(width):
            rows.extend(next(pixels))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(bytes(rows), 0))
        + _chunk(b"IEND", b"")
    )
    return base64.b64encode(content).decode("ascii")


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def stripes(first: Pixel, second: Pixel, across: int) -> Iterator[Pixel]:
    """Yield 12 x 12 pixels of vertical stripes."""
    for position in range(144):
        yield first if position % 12 // across % 2 == 0 else second


def user(*parts: Line) -> Line:
    """Return one turn of the user."""
    return {"role": "user", "parts": list(parts)}


def text(value: str) -> Line:
    """Return a text part."""
    return {"text": value}


def own(task: str, number: int, language: str, product: str) -> Line:
    """Return the members that belong to the caller and come back unchanged."""
    return {
        "key": f"{task}-{number:03}",
        "custom_id": f"{product}/{language}/{task}",
        "metadata": {"language": language, "product": product, "dataset": "demo-reviews"},
    }


def sentiments() -> Iterator[Line]:
    """Label each review, answered in JSON of a given schema."""
    schema = {
        "type": "OBJECT",
        "properties": {
            "sentiment": {"type": "STRING", "enum": ["positive", "neutral", "negative"]},
            "topics": {"type": "ARRAY", "items": {"type": "STRING"}},
        },
        "required": ["sentiment"],
    }
    for number, (language, product, _, review) in enumerate(REVIEWS):
        yield own("label", number, language, product) | {
            "request": {
                "systemInstruction": {
                    "parts": [text("You label product reviews. Answer with JSON only.")]
                },
                "contents": [user(text(f"Review of our {product}:\n{review}"))],
                "generationConfig": {
                    "temperature": 0.1,
                    "maxOutputTokens": 256,
                    "responseMimeType": "application/json",
                    "responseSchema": schema,
                },
            }
        }


def replies() -> Iterator[Line]:
    """Draft a reply to each review in its own language."""
    for number, (language, product, stars, review) in enumerate(REVIEWS):
        yield own("reply", number, language, product) | {
            "request": {
                "systemInstruction": {
                    "parts": [
                        text("You answer reviews for a small shop: warm, brief, no excuses."),
                        text('Write in the language of the review. Sign as "The team".'),
                    ]
                },
                "contents": [user(text(f'{stars} of 5 stars\n"{review}"'))],
                "generationConfig": {"temperature": 0.7, "maxOutputTokens": 400, "topP": 0.95},
            }
        }


def translations() -> Iterator[Line]:
    """Translate each review; a plain request with nothing but a prompt."""
    for number, (language, product, _, review) in enumerate(REVIEWS):
        prompt = f"Translate into {TRANSLATE_TO[language]}, keep the tone:\n{review}"
        yield own("translate", number, language, product) | {
            "request": {"contents": [user(text(prompt))]}
        }


def descriptions() -> Iterator[Line]:
    """Write a shop page for each product in several lengths."""
    for number, (product, facts) in enumerate(PRODUCT_FACTS.items()):
        for step, words in enumerate((15, 30, 60, 90, 120, 180)):
            yield own("describe", number * 10 + step, "en", product) | {
                "request": {
                    "contents": [
                        user(text(f"Describe this product in {words} words."), text(facts))
                    ],
                    "generationConfig": {"temperature": 0.9, "maxOutputTokens": 2 * words + 60},
                }
            }


def conversations() -> Iterator[Line]:
    """Go on with a conversation of three turns."""
    for number, (question, answer, reply) in enumerate(QUESTIONS):
        yield own("support", number, "en", "shop") | {
            "request": {
                "systemInstruction": {"parts": [text("You are the shop's support. Be brief.")]},
                "contents": [
                    user(text(question)),
                    {"role": "model", "parts": [text(answer)]},
                    user(text(reply)),
                ],
                "generationConfig": {"temperature": 0.4, "maxOutputTokens": 300},
            }
        }


def pictures() -> Iterator[Line]:
    """Ask about pictures: small ones inside the line, one large one in Cloud Storage."""
    colours: list[tuple[str, Pixel]] = [
        ("red", (200, 30, 40)), ("green", (30, 150, 70)), ("blue", (30, 70, 190)),
        ("yellow", (240, 210, 40)), ("black", (20, 20, 20)),
    ]  # fmt: skip
    for number in range(20):
        first, second = colours[number % 5][1], colours[(number // 5 + number + 1) % 5][1]
        picture = png(12, 12, stripes(first, second, 1 + number // 5))
        yield own("picture", number, "en", "fabric") | {
            "request": {
                "contents": [
                    user(
                        text("Which two colours do these stripes have?"),
                        {"inlineData": {"mimeType": "image/png", "data": picture}},
                    )
                ]
            }
        }
    for number, prompt in enumerate(
        ("What is on the plate?", "How many are there?", "Write an alt text of one sentence.")
    ):
        yield own("photo", number, "en", "bakery") | {
            "request": {
                "contents": [
                    user({"fileData": {"mimeType": "image/jpeg", "fileUri": SCONES}}, text(prompt))
                ]
            }
        }


def image_requests() -> Iterator[Line]:
    """Ask for pictures, with a word about each."""
    for name, prompt in IMAGE_PROMPTS:
        yield {
            "key": name,
            "request": {
                "contents": [user(text(prompt))],
                "generationConfig": {"responseModalities": ["TEXT", "IMAGE"]},
            },
        }


def reviews() -> list[Line]:
    """Return every line of reviews.jsonl, the tasks mixed as a real export mixes them."""
    lines = [
        *sentiments(), *replies(), *translations(), *descriptions(), *conversations(), *pictures()
    ]  # fmt: skip
    return [lines[position * 97 % len(lines)] for position in range(len(lines))]


def jsonl(lines: list[Line]) -> bytes:
    """Return the lines as JSONL, letters of all scripts as themselves."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def main() -> None:
    """Write both files."""
    (FOLDER / "reviews.jsonl").write_bytes(jsonl(reviews()))
    (FOLDER / "images.jsonl").write_bytes(jsonl(list(image_requests())))


if __name__ == "__main__":
    main()
