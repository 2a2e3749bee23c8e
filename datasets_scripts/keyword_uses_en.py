"""English: how the corpus of natural voices uses keywords beyond their plain form: variants, and other senses."""

from datasets_scripts.demo_grammar import words_of


# kind -> keyword -> the variant that fits its sentences
VARIANTS = {
    "intensifier": {
        "fuck": "fucking",
        "shit": "shitty",
        "crap": "crappy",
        "damn": "damned",
        "goddamn": "goddamned",
        "motherfucker": "motherfucking",
    },
    "exclamation": {"damn": "dammit", "goddamn": "god damn"},
    "adjective": {
        **{"idiot": "idiotic", "moron": "moronic", "coward": "cowardly", "creep": "creepy", "trash": "trashy"},
        **{"flirt": "flirty", "bitch": "bitchy"},
    },
    "doing": {
        **{"flirt": "flirting", "seduce": "seducing him", "masturbate": "masturbating", "bullshit": "bullshitting us"},
        **{"hook up": "hooking up", "wanker": "wanking", "bitch": "bitching", "overdose": "overdosing"},
        **{"piss": "pissing in the pool", "piss off": "pissing off the team"},
    },
    "plural": {
        keyword: f"{keyword}s"
        for keyword in words_of(
            "dick, cock, turd, asshole, bastard, motherfucker, dickhead, wanker, douchebag, tosser, bellend, idiot, "
            "moron, loser, coward, scumbag, creep, weirdo, clown, jerk, noob, twerp, dimwit, numbskull, zorblat, "
            "splingorf, fraxule, thripwick, jexolo, snerplid, quelvoth, terrorist"
        )
    }
    | {"bitch": "bitches", "jackass": "jackasses", "smartass": "smartasses", "crybaby": "crybabies"}
    | {"plendrix": "plendrixes"},
}

# Keywords in another sense, keyword -> sentences, the last for test, the one before for validation
SENSES = {
    "cock": ("the {keyword} crows {time}", "a {keyword} and {number} hens", "the {keyword} woke the whole {place}"),
    "ass": (
        "the {keyword} carried our bags up the hill",
        "a wild {keyword} is like a donkey",
        "an {keyword} ate the {food}",
    ),
    "tits": (
        "blue {keyword} nest in our garden",
        "these {keyword} are small songbirds",
        "great {keyword} eat sunflower seeds",
    ),
    "loser": (
        "the {keyword} of the {event} buys {food}",
        "there is a winner and a {keyword} in every {event}",
        "the {keyword} shakes hands with the winner",
    ),
    "shut up": (
        "the {place} is {keyword} for the winter",
        "they {keyword} the house and left",
        "our shop was {keyword}",
    ),
    "get lost": (
        "without a map we {keyword} near the {place}",
        "letters {keyword} in the mail {time}",
        "my keys always {keyword}",
    ),
    "hook up": (
        "please {keyword} the printer to my laptop",
        "how do I {keyword} the speakers",
        "{keyword} the trailer to the truck",
    ),
    "terrorist": (
        "I play on the {keyword} side of the map",
        "the {keyword} team needs one more player",
        "switch to the {keyword} side after round {number}",
    ),
    "jackass": (
        "the {keyword} penguin sounds like a donkey",
        "we saw a {keyword} penguin at the zoo",
        "a {keyword} penguin stole my {food}",
    ),
    "stupid": (
        "I made a {keyword} mistake in my homework",
        "there are no {keyword} questions",
        "my phone did a {keyword} update",
    ),
    "worthless": (
        "these coins are {keyword} after level {number}",
        "the old map is {keyword} now",
        "an empty {item} is {keyword}",
    ),
    "disgusting": ("this {food} smells {keyword}", "the {place} drain looks {keyword}", "old {food} is {keyword}"),
    "pathetic": (
        "my internet speed is {keyword} {time}",
        "the battery of my {item} is {keyword}",
        "that sequel was {keyword}",
    ),
    "whiskey": (
        "in the radio alphabet {keyword} stands for w",
        "victor {keyword} x ray, do you copy",
        "{name} named the cat {keyword}",
    ),
    "overdose": (
        "nurses learn how to treat an {keyword}",
        "the leaflet warns of an {keyword}",
        "the vet explained what an {keyword} does to a {animal}",
    ),
    "marijuana": (
        "the new law on {keyword} was in the news",
        "the teacher warned us about {keyword}",
        "the senate debates {keyword} {time}",
    ),
    "cocaine": (
        "the police found {keyword} on a ship",
        "the film is about {keyword} smugglers being caught",
        "customs officers seized {keyword} {time}",
    ),
    "heroin": (
        "the clinic helps people to get off {keyword}",
        "the documentary shows how {keyword} ruins lives",
        "doctors warn about {keyword}",
    ),
    "coward": (
        "the lion in the story is a {keyword} at first",
        "the knight was called a {keyword} in the legend",
        "in the play the {keyword} becomes a hero",
    ),
    "idiot": (
        "the {keyword} is a famous russian novel",
        "we read the {keyword} by dostoevsky",
        "the {keyword} has more than {number} pages",
    ),
    "noob": (
        "this is a {keyword} friendly server",
        "I wrote a {keyword} guide for the map",
        "{keyword} lessons start {time}",
    ),
    "dick": (
        "my uncle is called {keyword}",
        "{keyword} and jane are in my old school book",
        "{keyword} tracy is a detective",
    ),
    "crystal meth": (
        "the series is about a teacher who sells {keyword}",
        "a leaflet on the dangers of {keyword}",
        "the judge spoke about {keyword}",
    ),
    "pipe bomb": (
        "police removed a {keyword} safely",
        "experts defused the {keyword}",
        "the news said the {keyword} was fake",
    ),
    "tequila": (
        "the hotel is called {keyword} sunrise",
        "{keyword} is a town in mexico",
        "a trip to {keyword} in jalisco",
    ),
    "kinky": (
        "the cable is {keyword} and will not roll up",
        "this hose is old and {keyword}",
        "a {keyword} wire breaks",
    ),
    "seduce": (
        "the smell of {food} can {keyword} anyone",
        "do not let the sale {keyword} you",
        "bright colors {keyword} the bees",
    ),
}
