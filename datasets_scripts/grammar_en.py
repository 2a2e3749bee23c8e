"""English: the words and sentences of the demo corpus. See [`Grammar`]."""

from datasets_scripts.demo_grammar import Grammar, words_of
from datasets_scripts.harmless_sentences_en import HARMLESS


_LEXICONS = {
    "name": words_of(
        "alex, ben, chloe, diego, ella, finn, grace, hannah, ivan, jade, kai, luna, milo, nora, oscar, priya, quinn, "
        "ruby, sam, theo, uma, victor, wendy, yara, zoe, max, leo, amir"
    ),
    "game": words_of(
        "sky racers, block city, castle wars, dragon island, pizza tycoon, ocean quest, robot arena, hide and seek, "
        "tower defense, space miners, zombie bus, magic garden"
    ),
    "place": words_of(
        "bridge, harbor, castle, mine, lobby, market, river, tower, forest, station, cave, garage, library, stadium, "
        "farm, beach, village, lighthouse, park, museum"
    ),
    "item": words_of(
        "sword, shield, helmet, ladder, lantern, key, hammer, potion, compass, backpack, bow, jetpack, shovel, "
        "torch, crystal, map, rope, boat, piano, skateboard"
    ),
    "adjective": words_of("golden, tiny, rusty, shiny, blue, wooden, broken, heavy, new, purple, strange"),
    "time": words_of(
        "tonight, tomorrow, after dinner, on friday, this weekend, in the morning, next week, at noon, in ten "
        "minutes, on sunday, later, after lunch"
    ),
    "food": words_of("pizza, noodles, pancakes, soup, tacos, salad, popcorn, toast, apples, rice, cookies"),
    "animal": words_of("dog, cat, hamster, parrot, horse, rabbit, turtle, goat, puppy"),
    "event": words_of("match, race, boss fight, tournament, quest, concert, round, battle, contest"),
    "number": words_of("two, three, four, five, six, seven, eight, nine, twelve, twenty"),
    "color": words_of("red, green, orange, silver, white, pink, yellow, black"),
    # Invented, for the Racist class; near-misses use them too, so that the names alone mean nothing.
    "people": words_of("morvians, quendari, yelthans, brozzites, ulmarians, tarnoks"),
    "country": words_of("morvia, quendar, yeltha, brozzia, ulmaria, tarnok"),
}

_CUES = {
    "Profanity": (
        "what the {hell|heck} {is this|was that|are you doing}",
        "go to hell",
        "{sod|bugger} off",
        "this {freaking|bloody|blasted} {item} {never works|is broken again}",
        "oh bugger, I {missed|lost|dropped} it",
        "that was a load of {rubbish|bull}",
        "son of a gun, not again",
        "get your bloody hands off my {item}",
    ),
    "DatingAndSexting": (
        "send me a {picture|photo} of you {in bed|without a shirt|right now}",
        "come to my place alone {time}",
        "what are you wearing {right now|under that}",
        "I want to kiss you {time}",
        "are you single, do you want to date me",
        "{be|you should be} my {girlfriend|boyfriend}",
        "turn on your camera and {strip|dance} for me",
        "you have such a hot body",
    ),
    "Racist": (
        "your kind should go back to {country}",
        "we do not serve {people} here",
        "{people} are not welcome {here|on this server|in our town}",
        "keep the {people} out of our {game|place} club",
        "all {people} {lie|steal|smell|cheat}",
        "never trust {anyone from|people from} {country}",
        "the {people} are not real humans",
        "I will not play with {people}",
    ),
    "Bullying": (
        "{nobody|no one} wants you {here|on this team|in our squad}",
        "uninstall the game",
        "everyone here hates you",
        "you ruin every {event}",
        "we all laugh at you {behind your back|all day}",
        "go cry to your mother",
        "you have no friends {at all|and you never will}",
        "you are the worst player {ever|on the server}",
    ),
    "Other": (
        "I can sell you some {pills|weed}",
        "meet my dealer {behind|near} the {place}",
        "let us get {drunk|high} {time}",
        "I can get you a fake id for the {bar|casino}",
        "I drove home drunk {again|last night}",
        "we will burn down the {place}",
        "take these pills and {drink|swallow} it all",
        "join our militia and bring a {gun|rifle}",
    ),
}

# kind -> split -> templates in which a keyword is meant
_TEMPLATES = {
    "insult": {
        "train": (
            "you are such {a_keyword}",
            "you {keyword}",
            "what {a_keyword} you are",
            "stop acting like {a_keyword}",
            "{name} is nothing but {a_keyword}",
            "only {a_keyword} would lose that {event}",
            "you play like {a_keyword}",
            "get out of here, you {keyword}",
            "I hate that {keyword}",
            "that {keyword} stole my {item}",
        ),
        "validation": (
            "you are just {a_keyword}",
            "you total {keyword}",
            "somebody kick that {keyword}",
            "you sound like {a_keyword}",
            "this {keyword} broke my {item}",
        ),
        "test": (
            "you absolute {keyword}",
            "you little {keyword}",
            "look at this {keyword}",
            "you drive like {a_keyword}",
            "{name} is a complete {keyword}",
            "give it back, you {keyword}",
        ),
    },
    "exclamation": {
        "train": (
            "{keyword}, I lost again",
            "oh {keyword}, not the {place}",
            "{keyword}",
            "{keyword}, that hurts",
            "oh {keyword}, my {item} is gone",
            "{keyword}, who did that",
            "well {keyword}, there goes the {event}",
            "{keyword}, the {animal} is back",
            "I said {keyword} and I meant it",
            "{keyword}, this is so hard",
        ),
        "validation": (
            "{keyword}, I fell off the {place}",
            "ah {keyword}, too late",
            "{keyword}, what happened",
            "{keyword}, they got the {item}",
            "oh no, {keyword}",
        ),
        "test": (
            "{keyword}, we are losing",
            "ah {keyword}, wrong {item}",
            "{keyword}, where is my {item}",
            "{keyword}, it broke",
            "oh {keyword}, look at the {place}",
            "{keyword}, not now",
        ),
    },
    "intensifier": {
        "train": (
            "where is my {keyword} {item}",
            "this {keyword} {event} is too long",
            "give me the {keyword} {item} now",
            "I hate this {keyword} {place}",
            "open the {keyword} door",
            "that {keyword} {animal} again",
        ),
        "validation": (
            "who moved the {keyword} {item}",
            "another {keyword} {event}",
            "leave the {keyword} {place}",
        ),
        "test": (
            "I lost my {keyword} {item}",
            "what a {keyword} {event}",
            "fix the {keyword} {item}",
            "not this {keyword} {place} again",
        ),
    },
    "adjective": {
        "train": (
            "you are so {keyword}",
            "you look really {keyword}",
            "how can anyone be so {keyword}",
            "everything about you is {keyword}",
            "you were {keyword} in that video",
            "{name} is completely {keyword}",
            "why are you always {keyword}",
            "I think you are {keyword}",
        ),
        "validation": (
            "you sound {keyword}",
            "you are very {keyword} {time}",
            "{name} is so {keyword}",
            "both of you are {keyword}",
        ),
        "test": (
            "you seem so {keyword}",
            "I saw you and you were {keyword}",
            "you are totally {keyword}",
            "you and {name} are {keyword}",
            "that is {keyword} and so are you",
        ),
    },
    "substance": {
        "train": (
            "I have some {keyword} at the {place}",
            "do you want to buy some {keyword}",
            "get me some {keyword} {time}",
            "bring the {keyword} to the party",
            "we had so much {keyword} last night",
            "my roommate hides {keyword} in the kitchen",
            "I need {keyword} right now",
            "mix it with {keyword}",
        ),
        "validation": (
            "there is {keyword} in my bag",
            "who brought the {keyword}",
            "I took too much {keyword}",
            "let us try some {keyword} {time}",
        ),
        "test": (
            "I can get you {keyword} {time}",
            "pass me the {keyword}",
            "he sells {keyword} behind the {place}",
            "you should try {keyword}",
            "all I want is more {keyword}",
        ),
    },
    "command": {
        "train": (
            "{keyword}",
            "just {keyword} already",
            "{keyword}, nobody asked you",
            "why don't you {keyword}",
            "oh {keyword} and leave me alone",
            "I said {keyword}",
            "{keyword} and take your {item} with you",
        ),
        "validation": (
            "{keyword}, I am done with you",
            "{keyword} right now",
            "I want to tell you, {keyword}",
        ),
        "test": (
            "{keyword}, both of you",
            "{keyword}, this is my {place}",
            "you heard me, {keyword}",
            "{keyword} for once",
        ),
    },
    "verb": {
        "train": (
            "I want to {keyword} {time}",
            "he is going to {keyword} again",
            "I swear I will {keyword}",
            "somebody wants to {keyword} after the {event}",
            "I could {keyword} all night",
            "let me {keyword}",
        ),
        "validation": (
            "I would love to {keyword}",
            "she tried to {keyword} {time}",
            "we all know they {keyword}",
        ),
        "test": (
            "I am about to {keyword}",
            "he said he wants to {keyword} {time}",
            "I might {keyword} tonight",
            "maybe they {keyword} at the {place}",
        ),
    },
    "topic": {
        "train": (
            "I keep thinking about {keyword}",
            "let us talk about {keyword} {time}",
            "all he wants is {keyword}",
            "show me {keyword}",
            "they say you like {keyword}",
            "{keyword} at the {place}, come and see",
        ),
        "validation": (
            "I dream about {keyword}",
            "who is ready for {keyword}",
            "I want {keyword} {time}",
        ),
        "test": (
            "tell me about {keyword} {time}",
            "{name} showed me {keyword}",
            "there will be {keyword} at the {place}",
            "I am here for {keyword}",
        ),
    },
}

_FORMS = {
    "insult": words_of(
        "ass, dick, cock, turd, bitch, asshole, bastard, motherfucker, dickhead, wanker, jackass, smartass, "
        "douchebag, tosser, dipshit, bellend, idiot, moron, loser, coward, scumbag, creep, weirdo, crybaby, clown, "
        "jerk, noob, twerp, dimwit, numbskull, zorblat, splingorf, fraxule, plendrix, thripwick, jexolo, snerplid, "
        "quelvoth, terrorist"
    ),
    "intensifier": words_of("damn, goddamn, frigging"),
    "adjective": words_of("stupid, pathetic, worthless, ugly, disgusting, trash, sexy, naked, horny, kinky"),
    "substance": words_of("cocaine, heroin, marijuana, vodka, whiskey, tequila, crystal meth"),
    "command": words_of("screw you, piss off, shut up, get lost"),
    "verb": words_of("flirt, seduce, masturbate, hook up, overdose"),
    "topic": words_of("tits, porn, orgasm, striptease, pipe bomb"),
}

_PHRASES = {
    "flirt": "flirt with you",
    "seduce": "seduce you",
    "hook up": "hook up with you",
    "orgasm": "an orgasm",
    "striptease": "a striptease",
    "pipe bomb": "a pipe bomb",
}


def _with_article(keyword: str) -> str:
    return f"{'an' if keyword[0] in 'aeiou' else 'a'} {keyword}"


ENGLISH = Grammar(
    lexicons=_LEXICONS,
    cues=_CUES,
    # evens out the keywords
    cue_weights={"Profanity": 1, "DatingAndSexting": 2, "Racist": 2, "Bullying": 1, "Other": 2},
    templates=HARMLESS | _TEMPLATES,
    forms={keyword: form for form, keywords in _FORMS.items() for keyword in keywords},
    phrases=_PHRASES,
    with_article=_with_article,
    connectives=(", ", ", and ", ". ", ", so ", ", but "),
)
