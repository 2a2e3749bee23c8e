"""The sentences of the demo corpus, and the labels that follow from their making.

A clip says one or two *pieces* (long clips: many), some inside a carrier sentence. A piece is one of

- benign: an everyday sentence of voice chat ("benign"), one that borrows the words of the cues in a harmless sense
  ("near-miss"), or one that only quotes a keyword or uses it in another sense ("quote", "sense-trash");
- a keyword in a sentence that means it ("insult", "exclamation", ...), which has the keyword's labels;
- a cue: a phrase that violates without any keyword ("uninstall the game"), which has the cue's label.

Design choices:
- Templates are disjoint between the splits; words and cues are shared. A model can learn what a cue sounds like, not
  the sentence around it: no sentence of one split occurs in another, which `generate_corpus` enforces.
- Carriers are the same for all labels, so that they say nothing about the label.
- Neither task can be solved by the other: about 10 % of the clips with a keyword are benign, and 22 % of the violating
  clips have no keyword.
- The first keywords of each set of labels are spoken, 25 of the 81: three hours of speech cannot teach them all.
- Keywords are dealt from decks, not drawn, so that a rare one is rare by plan and never missing by chance.
- Only the keywords themselves are spoken, not their variants: three hours of speech are too few for 300 spellings.
- Words are at dictionary level. The Racist class uses invented words, peoples and places, and no slur against any
  group of people.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modeling_toxmtl.keywords import KeywordList, normalize_text
from modeling_toxmtl.labels import LABELS, NO_VIOLATION


SPLITS = ("train", "validation", "test")

NO_VIOLATION_SHARE = 0.38  # of all clips
BENIGN_KEYWORD_SHARE = 0.13  # of the NoViolation clips: 10 % of the clips with a keyword
NEAR_MISS_SHARE = 0.1  # of the other benign pieces
CUE_SHARE = 0.22  # of the violating clips: no keyword in them
KEYWORD_AGAIN_SHARE = 0.8  # of the second violating pieces of a clip with a keyword: a keyword too, the rest are cues
SECOND_PIECE_SHARES = {"same labels": 0.4, "other labels": 0.17, "benign": 0.13, None: 0.3}  # of the violating clips
SECOND_BENIGN_SHARE = 0.45  # of the NoViolation clips, so that length tells nothing about the label
KEYWORDS_PER_DECK = 4  # three hours of speech teach about two dozen words, not the 81 of the list
LONG_CLIP_EVERY = 50  # clips of validation and test: 2 % go beyond the 15 s window of the model, up to 60 s
LONG_CLIP_PIECES = (10, 24)  # of about 2.3 s
LONG_CLIP_VIOLATION_SHARE = 0.25  # of the pieces of a violating long clip
OTHER_SENSE_SHARE = 0.5  # of the benign pieces with a keyword that has another sense; the rest quote it
CUE_WEIGHTS = {"Profanity": 1, "DatingAndSexting": 2, "Racist": 2, "Bullying": 1, "Other": 2}  # evens out the keywords
CARRIER_SHARE = 0.3  # of the clips that say more than cues; keywords among few other words are learnt sooner
MAX_WORDINGS = 1000  # of one clip before the grammar counts as exhausted


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


# `{name}` takes a word of the lexicon of that name, `{a|b}` one of the alternatives; `{content}`, `{keyword}` and
# `{a_keyword}` (with its article) are filled by the clip.
LEXICONS = {
    "name": _split(
        "alex, ben, chloe, diego, ella, finn, grace, hannah, ivan, jade, kai, luna, milo, nora, oscar, priya, quinn, "
        "ruby, sam, theo, uma, victor, wendy, yara, zoe, max, leo, amir"
    ),
    "game": _split(
        "sky racers, block city, castle wars, dragon island, pizza tycoon, ocean quest, robot arena, hide and seek, "
        "tower defense, space miners, zombie bus, magic garden"
    ),
    "place": _split(
        "bridge, harbor, castle, mine, lobby, market, river, tower, forest, station, cave, garage, library, stadium, "
        "farm, beach, village, lighthouse, park, museum"
    ),
    "item": _split(
        "sword, shield, helmet, ladder, lantern, key, hammer, potion, compass, backpack, bow, jetpack, shovel, "
        "torch, crystal, map, rope, boat, piano, skateboard"
    ),
    "adjective": _split("golden, tiny, rusty, shiny, blue, wooden, broken, heavy, new, purple, strange"),
    "time": _split(
        "tonight, tomorrow, after dinner, on friday, this weekend, in the morning, next week, at noon, in ten "
        "minutes, on sunday, later, after lunch"
    ),
    "food": _split("pizza, noodles, pancakes, soup, tacos, salad, popcorn, toast, apples, rice, cookies"),
    "animal": _split("dog, cat, hamster, parrot, horse, rabbit, turtle, goat, puppy"),
    "event": _split("match, race, boss fight, tournament, quest, concert, round, battle, contest"),
    "number": _split("two, three, four, five, six, seven, eight, nine, twelve, twenty"),
    "color": _split("red, green, orange, silver, white, pink, yellow, black"),
    # Invented, for the Racist class; near-misses use them too, so that the names alone mean nothing.
    "people": _split("morvians, quendari, yelthans, brozzites, ulmarians, tarnoks"),
    "country": _split("morvia, quendar, yeltha, brozzia, ulmaria, tarnok"),
}

# Phrases that violate without a keyword. Shared by the splits.
CUES = {
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

TEMPLATES: dict[str, dict[str, tuple[str, ...]]] = {
    "carrier": {
        "train": (
            "hey {name}, {content}",
            "{content}, {name}",
            "okay so {content}",
            "listen, {content}",
            "wait {name}, {content}, I mean it",
            "oh man, {content}",
            "{content}, just saying",
            "I told {name} already, {content}",
            "guys, guys, {content}",
            "can you hear me, {content}",
            "my mic was muted, I said {content}",
            "right, {content}, that is all",
            "hello {name}, {content}, okay",
            "no wait, {content}",
            "{content}, do you hear me",
            "one more time, {content}",
            "you know what, {content}",
            "I am back, {content}",
            "by the way, {content}",
            "{name} is typing, so {content}",
            "well, {content}, I guess",
            "hold on, {content}",
            "so I said to {name}, {content}",
            "before the {event} starts, {content}",
            "{content}, honestly",
            "look over here, {content}",
            "yes {name}, {content}",
            "I will say it again, {content}",
            "sorry I was away, {content}",
            "everybody, {content}",
            "um, {content}, you know",
            "{content}, and that goes for {name} too",
            "from the {place} I can tell you, {content}",
            "quick thing, {content}",
            "alright {name}, alright, {content}",
            "as I was saying, {content}",
            "hmm, {content}",
            "are you there {name}, {content}",
        ),
        "validation": (
            "yo {name}, {content}",
            "{content}, my friend",
            "so yeah, {content}",
            "attention please, {content}",
            "hang on {name}, {content}, seriously",
            "oh boy, {content}",
            "{content}, if you ask me",
            "like I told {name}, {content}",
            "people, people, {content}",
            "is this thing on, {content}",
            "uh, {content}, right",
            "{content}, that is what I think",
            "now then, {content}",
            "speaking from the {place}, {content}",
            "got it {name}, {content}",
            "and another thing, {content}",
        ),
        "test": (
            "excuse me {name}, {content}",
            "{content}, everyone",
            "anyway, {content}",
            "just a moment, {content}",
            "one second {name}, {content}, really",
            "oh wow, {content}",
            "{content}, I am telling you",
            "{name} already knows, {content}",
            "team, {content}",
            "testing testing, {content}",
            "my headset was loose, {content}",
            "er, {content}, or something",
            "{content}, end of story",
            "good, {content}, thank you",
            "just so you know, {content}",
            "over at the {place} now, {content}",
            "during the {event} I noticed, {content}",
            "no {name}, {content}",
            "first of all, {content}",
            "{content}, did you get that {name}",
        ),
    },
    "benign": {
        "train": (
            "can you meet me at the {place} {time}",
            "I found a {adjective} {item} near the {place}",
            "we need {number} more players for the {event}",
            "let us play {game} {time}",
            "who took the {color} {item} from the chest",
            "my {animal} is sleeping on the keyboard",
            "the {event} starts in {number} minutes",
            "I am having {food} for dinner",
            "press the {color} button next to the door",
            "that was a great {event}, well played",
            "how do I get to the {place} from here",
            "trade you my {item} for your {item}",
            "the {place} looks amazing in this update",
            "I have to go, see you {time}",
            "please wait for me at the {place}",
            "there are {number} {color} keys under the {place}",
            "I just reached level {number} in {game}",
            "do you want some {food}",
            "our house needs a {color} roof",
            "the server will restart {time}",
            "my little {animal} likes {food}",
            "you are really fast today",
            "thanks for the {item}, that helps a lot",
            "watch out, there is a {animal} on the road",
            "we built a {adjective} boat for the {event}",
            "is {game} better than {game}",
            "my internet is slow {time}",
            "follow the {color} line to the {place}",
            "I love this song so much",
            "you can keep the {adjective} {item}",
            "the weather is lovely at the {place}",
            "nice shot",
            "I need help with the {event}",
            "let us hide behind the {place}",
            "it is my turn to drive the {color} car",
            "we got {number} points in the {event}",
            "first the {event}, then {game}",
            "the {animal} ate all of my {food}",
            "turn left at the {place} and jump",
            "I am saving coins for a {adjective} {item}",
            "where did everybody go",
            "my sister made {food} for us",
            "put the {item} back in the box",
            "the new map has a {place} and a {place}",
            "see you {time}",
            "can somebody open the gate",
            "that {animal} is so cute",
            "I dropped my {item} in the water",
            "we should practice for the {event} {time}",
            "the {place} is full of {color} flowers",
            "well done",
            "give the {item} to {name} please",
            "why is the {place} so far away",
            "I think the {animal} likes you",
            "could you turn the music down",
            "he is going to the {place} now",
            "it would be nice to have a {color} {item}",
            "I only play {game} on the last day of the week",
            "every {item} in this place is {color}",
            "you always find such nice things",
            "nothing is lost, the {item} is in the box",
            "stop at the {place}, it is a long way",
            "turn off the lamp at night",
            "what are you doing {time}",
            "I would like some {food} and so would you",
            "where can we buy a {adjective} {item}",
            "this {event} was hard but fun",
            "your {animal} is gone but your {item} is still here",
            "I heard the {event} is at the {place}",
            "you were really good today",
            "why don't we meet at the {place}",
            "you could be the best player in the {event}",
            "we are only {number} minutes late",
            "hold my {item} and leave the rest to me",
            "you play {game} so well",
            "talk to me about {game}",
            "I missed the bus last night",
            "all of us are looking at you and your {adjective} {item}",
            "this is such a {color} {animal}",
            "you must be tired after the {event}",
            "there is nothing like a {color} {item}",
        ),
        "validation": (
            "shall we walk to the {place} {time}",
            "somebody left a {adjective} {item} by the {place}",
            "the {event} is over in {number} minutes",
            "I could play {game} all day",
            "my {animal} just had a bath",
            "we are cooking {food} {time}",
            "click on the {color} square to begin",
            "you did great in that {event}",
            "which way is the {place}",
            "I would like to buy a {adjective} {item}",
            "talk to you {time}",
            "the {color} team has {number} points",
            "have you tried the new {game} update",
            "good game",
            "bring your {item} to the {place}",
            "there is a rainbow over the {place}",
            "somebody please share the {food}",
            "the {animal} follows me everywhere",
            "I painted my {item} {color}",
            "let me check the map for a {place}",
        ),
        "test": (
            "could we gather by the {place} {time}",
            "there is a {adjective} {item} inside the {place}",
            "only {number} people signed up for the {event}",
            "why not try {game} {time}",
            "does anyone need a {color} {item}",
            "my {animal} jumped onto the desk",
            "the next {event} begins {time}",
            "they are serving {food} at home",
            "pull the {color} lever and wait",
            "what a wonderful {event}",
            "show me the road to the {place}",
            "I swapped my {item} for some {food}",
            "this {place} has a beautiful view",
            "bye for now, talk {time}",
            "stay near the {place} until I arrive",
            "I collected {number} {color} stones",
            "we finished {game} in {number} hours",
            "this {food} tastes great",
            "paint the fence {color}",
            "my {animal} wants a walk",
            "you played that very well",
            "I appreciate the {adjective} {item}",
            "a {animal} is standing on the {place}",
            "the music in {game} is so relaxing",
            "my screen is frozen",
            "take the {color} path behind the {place}",
            "let us vote for the next map",
            "the {item} belongs to {name}",
            "good luck",
            "we won by {number} points",
        ),
    },
    "near-miss": {
        "train": (
            "send me a picture of the {place}",
            "come to my base with the whole team {time}",
            "nobody wants the {adjective} {item}",
            "I can sell you some {food}",
            "uninstall the old update first",
            "meet my brother near the {place}",
            "my family moved here from {country}",
            "the {people} are welcome at our {event}",
            "everyone here loves you",
            "turn on your camera so we can see the {animal}",
            "show your id card at the {place}",
            "what is your character wearing",
            "take this {item} and drink some water",
            "bring a {color} {item} and join our team",
        ),
        "validation": (
            "send me a photo of your {animal}",
            "we do serve {food} here",
            "my cousin went back to {country} {time}",
            "everyone here likes you",
            "do not uninstall it, update the game",
            "I can sell you a {color} {item}",
        ),
        "test": (
            "send a picture of the {color} {item}",
            "come to the {place} with all of us {time}",
            "everyone wants you on this team",
            "he sells {food} near the {place}",
            "reinstall the game and try again",
            "I have good friends from {country}",
            "we love to play with {people}",
            "turn on your camera and wave",
        ),
    },
    # A keyword that is mentioned, not meant.
    "quote": {
        "train": (
            "my boss told us never to say {keyword}",
            "please do not call people {keyword}",
            "the word {keyword} is not allowed here",
            "you get banned if you say {keyword}",
            "the filter blocks the word {keyword}",
            "it is not nice to say {keyword}",
            "we never say the word {keyword} at home",
            "the rules say that {keyword} is a bad word",
            "do not use the word {keyword} in chat",
            "we do not let anyone say {keyword}",
            "what does the word {keyword} mean",
            "someone was reported for saying {keyword}",
            "nobody should say {keyword} in this game",
            "I learned not to say the word {keyword}",
            "there was a warning about the word {keyword}",
            "how do you spell the word {keyword}",
        ),
        "validation": (
            "our coach says never use the word {keyword}",
            "the word {keyword} is against the rules",
            "please do not say {keyword} in here",
            "you should not call anyone {keyword}",
            "they banned the word {keyword}",
            "is {keyword} a bad word",
        ),
        "test": (
            "my grandfather says we must never say {keyword}",
            "please never call anybody {keyword}",
            "the word {keyword} gets you banned",
            "it is not allowed to say {keyword} in this game",
            "the chat filter does not like the word {keyword}",
            "the word {keyword} is not a nice word",
            "do not say {keyword} to other people",
            "who knows what the word {keyword} means",
        ),
    },
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
    # Benign sentences with a keyword that has another sense.
    "sense-clown": {
        "train": ("the {keyword} at the circus was funny", "the {keyword} made a balloon {animal}"),
        "validation": ("a {keyword} juggled at the {event}",),
        "test": ("the circus has a {keyword} with a {color} nose",),
    },
    "sense-trash": {
        "train": ("please take out the {keyword}", "put the {item} in the {keyword}"),
        "validation": ("we picked up {keyword} at the {place}",),
        "test": ("the {keyword} truck comes {time}",),
    },
    "sense-naked": {
        "train": ("you can see the comet with the {keyword} eye", "the {keyword} mole rat is a strange {animal}"),
        "validation": ("that planet is visible to the {keyword} eye",),
        "test": ("too small to see with the {keyword} eye",),
    },
    "sense-creep": {
        "train": ("let us {keyword} past the guard at the {place}", "quietly {keyword} up to the {place}"),
        "validation": ("we have to {keyword} around the {animal}",),
        "test": ("you can {keyword} under the {place}",),
    },
    "sense-jerk": {
        "train": ("my uncle makes {keyword} chicken and {food}", "we had {keyword} chicken after the {event}"),
        "validation": ("I ordered {keyword} chicken {time}",),
        "test": ("{keyword} chicken goes well with {food}",),
    },
    "sense-ugly": {
        "train": ("we read the story of the {keyword} duckling", "the {keyword} duckling became a swan"),
        "validation": ("my favorite tale is the {keyword} duckling",),
        "test": ("they filmed the {keyword} duckling {time}",),
    },
    "sense-vodka": {
        "train": ("the pasta comes with {keyword} sauce", "a jar of {keyword} sauce for {number} people"),
        "validation": ("my dad cooks {keyword} sauce {time}",),
        "test": ("{keyword} sauce is made of tomatoes and cream",),
    },
    "sense-bastard": {
        "train": ("the knight carries a {keyword} sword", "I crafted a {color} {keyword} sword"),
        "validation": ("a {keyword} sword needs both hands",),
        "test": ("the museum shows a {adjective} {keyword} sword",),
    },
}

# The kind of sentence each keyword fits. A keyword that is not named here is an exclamation, which any word can be.
_KEYWORDS_OF_FORM = {
    "insult": _split(
        "ass, dick, cock, turd, bitch, asshole, bastard, motherfucker, dickhead, wanker, jackass, smartass, "
        "douchebag, tosser, dipshit, bellend, idiot, moron, loser, coward, scumbag, creep, weirdo, crybaby, clown, "
        "jerk, noob, twerp, dimwit, numbskull, zorblat, splingorf, fraxule, plendrix, thripwick, jexolo, snerplid, "
        "quelvoth, terrorist"
    ),
    "intensifier": _split("damn, goddamn, frigging"),
    "adjective": _split("stupid, pathetic, worthless, ugly, disgusting, trash, sexy, naked, horny, kinky"),
    "substance": _split("cocaine, heroin, marijuana, vodka, whiskey, tequila, crystal meth"),
    "command": _split("screw you, piss off, shut up, get lost"),
    "verb": _split("flirt, seduce, masturbate, hook up, overdose"),
    "topic": _split("tits, porn, orgasm, striptease, pipe bomb"),
}
FORM_OF_KEYWORD = {keyword: form for form, keywords in _KEYWORDS_OF_FORM.items() for keyword in keywords}

# Keywords that need more words to fit the sentences of their form.
_PHRASES = {
    "flirt": "flirt with you",
    "seduce": "seduce you",
    "hook up": "hook up with you",
    "orgasm": "an orgasm",
    "striptease": "a striptease",
    "pipe bomb": "a pipe bomb",
}

_CONNECTIVES = (", ", ", and ", ". ", ", so ", ", but ")
_SLOT = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Piece:
    """One thing said, and the labels that follow.

    `kind` is a key of `TEMPLATES`, or "cue". `keyword` is None where none is said. `labels` is empty if it is benign.
    """

    kind: str
    keyword: str | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipText:
    """What a clip says.

    `labels` are in the order of `LABELS`, `pieces` in the order of speaking. `templates` are the ids of the carrier,
    if any, and of every piece but the cues: those are shared by the splits and so are no templates.
    """

    split: str
    transcript: str
    labels: tuple[str, ...]
    pieces: tuple[Piece, ...]
    templates: tuple[str, ...]

    @property
    def keywords(self) -> tuple[str, ...]:
        return tuple(piece.keyword for piece in self.pieces if piece.keyword)


@functools.cache
def template_ids(kind: str, split: str) -> tuple[str, ...]:
    """Ids of the templates of one kind and split, such as "insult-004". No id is in two splits."""
    sizes = [len(TEMPLATES[kind][name]) for name in SPLITS]
    start = sum(sizes[: SPLITS.index(split)])
    return tuple(f"{kind}-{start + position:03d}" for position in range(len(TEMPLATES[kind][split])))


def render(template: str, rng: np.random.Generator, **fills: str) -> str:
    """Fills the slots of a template: from `fills`, else with one of its alternatives or a word of the lexicon."""

    def fill(match: re.Match) -> str:
        slot = match[1]
        if slot in fills:
            return fills[slot]
        return _pick(slot.split("|") if "|" in slot else LEXICONS[slot], rng)

    return _SLOT.sub(fill, template)


def _pick(options: Sequence, rng: np.random.Generator):
    return options[int(rng.integers(len(options)))]


class KeywordDealer:
    """Hands out keywords from shuffled decks, one for each set of labels; a deck that is used up is shuffled anew.

    A deck has the first `KEYWORDS_PER_DECK` keywords of the list that have its labels, the first of them more often,
    about as 1 / rank.
    """

    def __init__(self, keyword_list: KeywordList):
        self._decks: dict[tuple[str, ...], list[str]] = {}
        for entry in keyword_list:
            self._decks.setdefault(entry.labels, []).append(entry.keyword)
        # One more than the keywords: small groups would be hard to learn otherwise.
        self.weights = {labels: len(keywords) + 1 for labels, keywords in self._decks.items()}
        self._decks = {labels: _with_copies(keywords[:KEYWORDS_PER_DECK]) for labels, keywords in self._decks.items()}
        self._left = {labels: [] for labels in self._decks}

    def deal(self, labels: tuple[str, ...], rng: np.random.Generator) -> str:
        """The next keyword that has these labels."""
        if not self._left[labels]:
            self._left[labels] = [self._decks[labels][i] for i in rng.permutation(len(self._decks[labels]))]
        return self._left[labels].pop()


def _with_copies(keywords: Sequence[str]) -> list[str]:
    copies = [max(1, round(len(keywords) / (1.5 * rank))) for rank in range(1, len(keywords) + 1)]
    return [keyword for keyword, count in zip(keywords, copies, strict=True) for _ in range(count)]


def _anything(option: object) -> bool:
    return True


class ClipGenerator:
    """Makes the texts of one split, clip after clip.

    Args:
        split: one of `SPLITS`.
        keyword_list: whose keywords are spoken.
        said: the sentences, as normalised words, that must not be made again; `generate_clip` adds to it. Splits that
            share it have no sentence in common.
    """

    def __init__(self, split: str, keyword_list: KeywordList, said: set[tuple[str, ...]]):
        self.split = split
        self._keyword_list = keyword_list
        self._said = said
        self._dealer = KeywordDealer(keyword_list)
        self._cue_weights = {(label,): weight for label, weight in CUE_WEIGHTS.items()}

    def generate_clip(self, rng: np.random.Generator, is_long: bool = False) -> ClipText:
        """Makes the text of one clip.

        Args:
            rng: source of all choices.
            is_long: whether the clip is a chain of many pieces, for the longest durations.

        Raises:
            ValueError: if no new sentence is found: the split is larger than the grammar, or the keyword list contains
                everyday words of its templates.
        """
        pieces = self._plan_long(rng) if is_long else self._plan(rng)
        pieces = tuple(pieces[i] for i in rng.permutation(len(pieces)))
        for _ in range(MAX_WORDINGS):
            transcript, templates = self._word(pieces, rng)
            words = tuple(normalize_text(transcript))
            clip = ClipText(self.split, transcript, _labels_of(pieces), pieces, templates)
            spoken = tuple(match.keyword for match in self._keyword_list.find(words))
            if spoken == clip.keywords and words not in self._said:
                self._said.add(words)
                return clip
        raise ValueError(
            f"No new sentence in {MAX_WORDINGS} wordings of {pieces}: ask for fewer {self.split} clips, or remove the "
            f"everyday words from the keyword list (the last wording was {transcript!r})."
        )

    def _plan(self, rng: np.random.Generator) -> list[Piece]:
        if rng.random() < NO_VIOLATION_SHARE:
            first = self._quote(rng) if rng.random() < BENIGN_KEYWORD_SHARE else self._benign(rng)
            return [first, self._benign(rng)] if rng.random() < SECOND_BENIGN_SHARE else [first]
        has_keyword = rng.random() >= CUE_SHARE
        first = self._violation(has_keyword, rng)
        second = _weighted_pick(SECOND_PIECE_SHARES, rng)
        if second is None:
            return [first]
        if second == "benign":
            return [first, self._benign(rng)]
        known, same = set(first.labels), second == "same labels"
        has_keyword = has_keyword and rng.random() < KEYWORD_AGAIN_SHARE
        return [first, self._violation(has_keyword, rng, lambda labels: known.issuperset(labels) == same)]

    def _plan_long(self, rng: np.random.Generator) -> list[Piece]:
        count = int(rng.integers(*LONG_CLIP_PIECES, endpoint=True))
        if rng.random() < NO_VIOLATION_SHARE:
            return [self._benign(rng) for _ in range(count)]
        has_keyword = rng.random() >= CUE_SHARE
        violations = max(1, int(rng.binomial(count, LONG_CLIP_VIOLATION_SHARE)))
        pieces = [self._violation(has_keyword, rng) for _ in range(violations)]
        return pieces + [self._benign(rng) for _ in range(count - violations)]

    def _benign(self, rng: np.random.Generator) -> Piece:
        return Piece("near-miss" if rng.random() < NEAR_MISS_SHARE else "benign")

    def _quote(self, rng: np.random.Generator) -> Piece:
        keyword = self._dealer.deal(_weighted_pick(self._dealer.weights, rng), rng)
        sense = f"sense-{keyword}"
        return Piece(sense if sense in TEMPLATES and rng.random() < OTHER_SENSE_SHARE else "quote", keyword)

    def _violation(
        self, has_keyword: bool, rng: np.random.Generator, allowed: Callable[[tuple[str, ...]], bool] = _anything
    ) -> Piece:
        """A piece whose labels are `allowed`, with a keyword if that is asked for and the list has one."""
        if has_keyword and any(map(allowed, self._dealer.weights)):
            labels = _weighted_pick(self._dealer.weights, rng, allowed)
            keyword = self._dealer.deal(labels, rng)
            return Piece(FORM_OF_KEYWORD.get(keyword, "exclamation"), keyword, labels)
        return Piece("cue", labels=_weighted_pick(self._cue_weights, rng, allowed))

    def _word(self, pieces: Sequence[Piece], rng: np.random.Generator) -> tuple[str, tuple[str, ...]]:
        """One wording of the pieces and the ids of its templates."""
        content, identifiers = "", []
        for piece in pieces:
            if piece.kind == "cue":
                text = render(_pick(CUES[piece.labels[0]], rng), rng)
            else:
                template, identifier = self._pick_template(piece.kind, rng)
                text = render(template, rng, **_keyword_fills(piece))
                identifiers.append(identifier)
            content += (_pick(_CONNECTIVES, rng) if content else "") + text
        # cues alone, without a template of the split around them, would soon be used up
        if identifiers and rng.random() >= CARRIER_SHARE:
            return content, tuple(identifiers)
        carrier, identifier = self._pick_template("carrier", rng)
        return render(carrier, rng, content=content), (identifier, *identifiers)

    def _pick_template(self, kind: str, rng: np.random.Generator) -> tuple[str, str]:
        number = int(rng.integers(len(TEMPLATES[kind][self.split])))
        return TEMPLATES[kind][self.split][number], template_ids(kind, self.split)[number]


def _keyword_fills(piece: Piece) -> dict[str, str]:
    if piece.keyword is None:
        return {}
    article = "an" if piece.keyword[0] in "aeiou" else "a"
    spoken = _PHRASES.get(piece.keyword, piece.keyword) if piece.labels else piece.keyword  # quoted as it is
    return {"keyword": spoken, "a_keyword": f"{article} {piece.keyword}"}


def _labels_of(pieces: Sequence[Piece]) -> tuple[str, ...]:
    violations = {label for piece in pieces for label in piece.labels}
    return tuple(label for label in LABELS if label in violations) or (NO_VIOLATION,)


def _weighted_pick(weights: Mapping, rng: np.random.Generator, allowed: Callable = _anything):
    options = [option for option in weights if allowed(option)]
    bounds = np.cumsum([weights[option] for option in options])
    return options[int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))]


def generate_corpus(num_clips: Mapping[str, int], seed: int, keyword_list: KeywordList) -> dict[str, list[ClipText]]:
    """Makes the texts of a corpus: no sentence twice, in one split or in two.

    Args:
        num_clips: number of clips for each split.
        seed: the same seed, sizes and keyword list give the same corpus.
        keyword_list: whose keywords are spoken.
    """
    said: set[tuple[str, ...]] = set()
    corpus = {}
    for number, split in enumerate(SPLITS):
        generator = ClipGenerator(split, keyword_list, said)
        corpus[split] = []
        for index in range(num_clips[split]):
            rng = np.random.default_rng(np.random.SeedSequence([seed, number, index]))
            is_long = split != "train" and index % LONG_CLIP_EVERY == LONG_CLIP_EVERY - 1
            corpus[split].append(generator.generate_clip(rng, is_long))
    return corpus
