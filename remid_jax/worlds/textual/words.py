"""The words of the textual world. All are invented for it; every list is one slot or one name."""

MOODS = ("bold", "calm", "shy", "glad")
TOPICS = ("abroad", "indoors", "online", "outdoors")
"""Places a dialogue is about; a persona has one mood for each."""

GREETINGS = ("Hello", "Hallo", "Hola", "Nihao", "Konnichiwa", "Annyeong")
"""One a culture, in the order of `CULTURES`."""

VOICES = ("surely", "perhaps", "indeed", "alas", "verily")
VERBS = ("buy", "borrow", "build", "bring")
ITEMS = ("lantern", "kettle", "whistle", "compass", "blanket", "mirror", "ladder", "violin")

CULTURES = ("english", "german", "spanish", "chinese", "japanese", "korean")
"""Cultures of personas; the first is in-distribution, the others are subset tags."""

PERSONA_NAMES = (
    (("Emma", "Oliver", "Alice", "Henry"), ("Smith", "Brown", "Taylor", "Clark")),
    (("Anna", "Lukas", "Greta", "Jonas"), ("Schmidt", "Weber", "Fischer", "Becker")),
    (("Lucia", "Mateo", "Carmen", "Pablo"), ("Garcia", "Lopez", "Romero", "Navarro")),
    (("Mei", "Jun", "Ling", "Hao"), ("Wang", "Li", "Zhang", "Chen")),
    (("Yuki", "Haruto", "Sakura", "Kenji"), ("Sato", "Tanaka", "Suzuki", "Mori")),
    (("Jisoo", "Minho", "Hana", "Seojun"), ("Kim", "Park", "Choi", "Jung")),
)
CITIES = (
    ("London", "Leeds", "Bristol", "York"),
    ("Berlin", "Hamburg", "Leipzig", "Bremen"),
    ("Madrid", "Sevilla", "Bilbao", "Toledo"),
    ("Beijing", "Shanghai", "Chengdu", "Wuhan"),
    ("Tokyo", "Osaka", "Kyoto", "Nagoya"),
    ("Seoul", "Busan", "Daegu", "Incheon"),
)

CATEGORIES = ("real", "Literature", "Film & Television", "Theater", "Gaming")
"""Categories of characters; the first is in-distribution, the others are subset tags."""

ORIGINS = ("life", "novel", "film", "play", "game")
CHARACTER_NAMES = (
    (("Clara", "Walter", "Edith", "Hugo"), ("Stone", "Reed", "Marsh", "Flint")),
    (("Elspeth", "Ambrose", "Rowena", "Tobias"), ("Ashdown", "Merrow", "Penhale", "Quill")),
    (("Nora", "Vincent", "Stella", "Rex"), ("Blaze", "Vale", "Crane", "Storm")),
    (("Orsina", "Lysias", "Viola", "Fabian"), ("Dorset", "Hallow", "Ferrand", "Wyld")),
    (("Zyra", "Kael", "Nyx", "Torin"), ("Ironvale", "Duskbane", "Frostlow", "Emberfall")),
)
GROUP_LIMIT = 16
"""Personas a culture and characters a category, at most: four given and four family names."""

USER_FILLERS = ("Yes.", "Right.", "True.", "Well.")
AGENT_FILLERS = ("Oh.", "Good.", "Fine.", "Really?")
"""What is said in the longer dialogues where nothing is asked."""


def full_name(names: tuple[tuple[str, ...], tuple[str, ...]], index: int) -> str:
    """The index-th of 16 names; the first four differ in both parts.

    >>> [full_name((("A", "B", "C", "D"), ("p", "q", "r", "s")), i) for i in (0, 1, 4)]
    ['A p', 'B q', 'A q']
    """
    given, family = names
    return f"{given[index % 4]} {family[(index + index // 4) % 4]}"
